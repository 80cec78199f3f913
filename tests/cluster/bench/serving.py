"""One ModelService on real nodes: from apply to its first token, from a load step to a new pod.

The chart, the images and the load are those of the cluster tests. What the API server dates is
rounded down to a second there: a process's own start comes out up to one second too long.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
from baton.common.clock import SystemClock
from baton_loadtest.steady import Question, SteadyLoad
from cluster.bench.report import Serving
from cluster.harness.cluster import Cluster
from cluster.harness.commands import until
from cluster.harness.errors import CommandFailed, LimitReached
from cluster.release import MODEL, NAMESPACE, READY_LIMIT_S, SMALL, Release, model_service

SERVICE = "bench"
STREAMS = 10
STORIES = tuple(
    Question(f"Tell me a long story about the number {index}.", 160) for index in range(8)
)
"""Output-heavy, and more at once than the latency target below allows one worker."""

ASK_EVERY_S = 0.1
CALM_S = 15.0
"""After the first token: the operator has had three looks at a service that nobody uses."""

REQUEST_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Worker:
    """A pod of a role; seconds since 1970."""

    name: str
    container_started_s: float
    ready_s: float


def measure(cluster: Cluster, rounds: int, tell: Callable[[str], None]) -> list[Serving]:
    """Leaves the chart, and no ModelService of its own. Raises HarnessError, TimeoutError."""
    release = Release(cluster)
    release.install()
    found = []
    try:
        for number in range(rounds):
            _remove(release)
            found.append(asyncio.run(_round(release)))
            tell(f"round {number + 1} of {rounds}: {found[-1]}")
    finally:
        _remove(release)
    return found


async def _round(release: Release) -> Serving:
    applied_s = time.time()
    release.apply(_service())
    first_token_s = _first_token_at(release) - applied_s
    first = max(
        (worker for role in ("prefill", "decode") for worker in _workers(release, role)),
        key=lambda worker: worker.ready_s,
    )
    release.await_answering(SERVICE)
    await asyncio.sleep(CALM_S)
    step_s, decided_s, new = await _step(release)
    return Serving(
        container_started_s=first.container_started_s - applied_s,
        pod_ready_s=first.ready_s - applied_s,
        first_token_s=first_token_s,
        step_decided_s=decided_s - step_s,
        step_started_s=new.container_started_s - step_s,
        step_ready_s=new.ready_s - step_s,
    )


async def _step(release: Release) -> tuple[float, float, Worker]:
    """When the load began, when more pods were wanted, and the first new pod that was ready."""
    before = {worker.name for worker in _workers(release, "decode")}
    load = SteadyLoad(release.url(SERVICE), MODEL, STORIES, clock=SystemClock())
    async with load.running(STREAMS):
        began_s = time.time()
        async with asyncio.timeout(READY_LIMIT_S):
            decided_s = await _more_wanted(release, len(before))
            new = await _new_worker(release, before)
    await load.aclose()
    return began_s, decided_s, new


async def _more_wanted(release: Release, pods: int) -> float:
    """When more decode pods than that are wanted."""
    while True:
        found = await asyncio.to_thread(release.deployment, "decode", SERVICE)
        if found["spec"]["replicas"] > pods:
            return time.time()
        await asyncio.sleep(ASK_EVERY_S)


async def _new_worker(release: Release, before: set[str]) -> Worker:
    """The first decode pod that is ready and not one of `before`."""
    while True:
        workers = await asyncio.to_thread(_workers, release, "decode")
        new = [worker for worker in workers if worker.name not in before]
        if new:
            return min(new, key=lambda worker: worker.ready_s)
        await asyncio.sleep(ASK_EVERY_S)


def _service() -> dict[str, Any]:
    """One pod of each role; decode may become two."""
    engine = {"quantization": "int8", "kvCache": "192Mi"}
    role = {"engine": engine, "template": {"resources": SMALL}}
    return model_service(
        SERVICE,
        slo={"ttft": "1500ms", "itl": "60ms"},
        router={"replicas": 1, "template": {"resources": SMALL}},
        prefill={"replicas": 1, **role},
        decode={"scaling": {"minReplicas": 1, "maxReplicas": 2}, **role},
    )


def _first_token_at(release: Release) -> float:
    """Asks again and again, from the moment the Service has an address."""
    url: str | None = None
    deadline_s = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline_s:
        try:
            url = url or release.url(SERVICE)
            return _ask(url)
        except (CommandFailed, httpx.HTTPError):
            time.sleep(ASK_EVERY_S)
    raise LimitReached(f"no token in {READY_LIMIT_S:.0f} s")


def _ask(url: str) -> float:
    """When the first token came. Raises httpx.HTTPError."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 8,
        "stream": True,
    }
    with httpx.stream(
        "POST", f"{url}/chat/completions", json=body, timeout=REQUEST_LIMIT_S, trust_env=False
    ) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: {") and _has_text(json.loads(line.removeprefix("data: "))):
                return time.time()
    raise httpx.RemoteProtocolError("the answer has no token")


def _has_text(chunk: Mapping[str, Any]) -> bool:
    return any(choice["delta"].get("content") for choice in chunk.get("choices", ()))


def _workers(release: Release, role: str) -> list[Worker]:
    """The ready ones."""
    selector = f"app.kubernetes.io/instance={SERVICE},app.kubernetes.io/component={role}"
    pods = release.cluster.read("pods", f"--selector={selector}", namespace=NAMESPACE)["items"]
    found = []
    for pod in pods:
        conditions = {one["type"]: one for one in pod["status"].get("conditions", ())}
        if conditions.get("Ready", {}).get("status") == "True":
            (container,) = pod["status"]["containerStatuses"]
            started = container["state"]["running"]["startedAt"]
            ready = conditions["Ready"]["lastTransitionTime"]
            found.append(Worker(pod["metadata"]["name"], _unix(started), _unix(ready)))
    return found


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _remove(release: Release) -> None:
    """The service of an earlier round, and all its pods."""
    selector = f"app.kubernetes.io/instance={SERVICE}"
    gone = ("delete", "modelservice", SERVICE, "--ignore-not-found", "--wait=true")
    release.cluster.kubectl(*gone, namespace=NAMESPACE)

    def empty() -> bool:
        pods = release.cluster.read("pods", f"--selector={selector}", namespace=NAMESPACE)
        return not pods["items"]

    until(empty, limit_s=READY_LIMIT_S, what="the pods of the last round are gone")
