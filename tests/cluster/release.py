"""Baton as a platform engineer has it: the chart installed, one ModelService applied.

Knows the chart and the custom resource from outside: helm, kubectl, HTTP. Knows no internals.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from baton.common.clock import SystemClock
from baton_loadtest.steady import Question, SteadyLoad
from cluster.harness.cluster import Cluster
from cluster.harness.commands import until
from cluster.harness.layout import REPOSITORY
from cluster.images.__main__ import archive_folder

CHART = REPOSITORY / "deploy" / "helm" / "baton"
IMAGES = ("baton-operator", "baton-router", "baton-worker", "baton-weights")
NAMESPACE = "baton"
"""Of the operator and its first model alike: `helm test` looks for the model beside it."""

RELEASE = "baton"
SERVICE = "smollm2"
ROLES = ("router", "prefill", "decode")
MODEL = "smollm2-135m"
WEIGHTS = "oci://localhost/baton-weights:dev/model/SmolLM2-135M-Instruct.Q4_1.gguf"

READY_LIMIT_S = 420.0
"""Torch from a cold disk on two cores that everybody shares; warm it takes half a minute."""

ROLLOUT_LIMIT_S = 300.0
ROUTER_PORT = 8000
CONNECT_LIMIT_S = 5.0
PROXY_LIMIT_S = 60.0
"""kube-proxy writes its rules once a second, and has the processor when others leave it some."""

SMALL = {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "3Gi"}}

QUESTIONS = (
    Question("What is the capital of France?", 16),
    Question("Write a short story about a lighthouse keeper and the sea.", 64),
    Question("List the planets of the solar system, one per line.", 48),
    Question("Explain to a child why the sky is blue, in a few sentences.", 56),
    Question("Count from one to twenty in words.", 48),
)


def chart_values() -> dict[str, Any]:
    """Of the test release: images that were loaded into the nodes."""
    image = {"registry": "localhost", "tag": "dev"}
    return {
        "images": {"operator": image, "router": image, "worker": image},
        "operator": {"replicas": 2, "podAnnotations": {"test/images": loaded_images()}},
        "modelService": {"name": SERVICE, "spec": {"prefill": {}}},  # whom `helm test` asks
        "tests": {"expect": "Paris"},
    }


def loaded_images() -> str:
    """Changes with what the images were made of: their tags do not, and pods must."""
    inputs = [archive_folder() / f"{image}.inputs" for image in IMAGES]
    return sha256(b"".join(path.read_bytes() for path in inputs)).hexdigest()[:12]


def model_service(name: str = SERVICE, **spec: Any) -> dict[str, Any]:
    """SmolLM2 with one prefill and two decode workers; `spec` replaces top-level fields."""
    template = {"resources": SMALL, "annotations": {"test/images": loaded_images()}}
    engine = {"quantization": "int8", "kvCache": "192Mi"}
    return {
        "apiVersion": "serving.baton.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": name},
        "spec": {
            "model": {"name": MODEL, "source": WEIGHTS},
            "slo": {"ttft": "5s", "itl": "500ms"},
            "router": {"replicas": 2, "template": template},
            "prefill": {"replicas": 1, "engine": engine, "template": template},
            "decode": {"replicas": 2, "engine": engine, "template": template},
            **spec,
        },
    }


@dataclass(frozen=True, slots=True)
class Release:
    """One installed chart and its ModelService."""

    cluster: Cluster

    def install(self) -> None:
        """The images into the nodes, the chart, the namespace of models."""
        for image in IMAGES:
            self.cluster.load_image(archive_folder() / f"{image}.tar")
        self.cluster.make_namespace(NAMESPACE)
        self.upgrade()

    def upgrade(self, values: Mapping[str, Any] | None = None) -> str:
        """Install or upgrade the chart, and wait until the operator is ready."""
        said = json.dumps({**chart_values(), **(values or {})})
        where = REPOSITORY / ".cache" / "cluster-values.json"
        where.parent.mkdir(exist_ok=True)
        where.write_text(said, encoding="utf-8")
        words = ("upgrade", "--install", RELEASE, str(CHART), f"--values={where}")
        wait = ("--wait", "--timeout=5m")
        return self.cluster.helm(*words, *wait, namespace=NAMESPACE, limit_s=330)

    def apply(self, service: Mapping[str, Any]) -> None:
        """Create it, or replace what an earlier run left of it."""
        name = service["metadata"]["name"]
        found = self.cluster.read("modelservices", namespace=NAMESPACE)["items"]
        versions = [
            one["metadata"]["resourceVersion"] for one in found if one["metadata"]["name"] == name
        ]
        verb, metadata = "create", dict(service["metadata"])
        if versions:
            verb, metadata["resourceVersion"] = "replace", versions[0]
        document = json.dumps({**service, "metadata": metadata})
        self.cluster.kubectl(verb, "--filename=-", namespace=NAMESPACE, stdin=document)

    def patch(self, spec: Mapping[str, Any], name: str = SERVICE) -> None:
        """Merge into the ModelService's spec, as `kubectl edit` would."""
        patch = json.dumps({"spec": spec})
        words = ("patch", "modelservice", name, "--type=merge", f"--patch={patch}")
        self.cluster.kubectl(*words, namespace=NAMESPACE)

    def service(self, name: str = SERVICE) -> dict[str, Any]:
        return self.cluster.read("modelservice", name, namespace=NAMESPACE)

    def condition(self, kind: str, name: str = SERVICE) -> dict[str, Any]:
        """Empty while there is none for the present generation."""
        found = self.service(name)
        for condition in found.get("status", {}).get("conditions", []):
            current = condition.get("observedGeneration") == found["metadata"]["generation"]
            if condition["type"] == kind and current:
                return dict(condition)
        return {}

    def await_ready(self, name: str = SERVICE, *, limit_s: float = READY_LIMIT_S) -> None:
        """Raises LimitReached."""
        until(
            lambda: self.condition("Ready", name).get("status") == "True",
            limit_s=limit_s,
            what=f"{name} is Ready",
        )

    def await_answering(self, name: str = SERVICE) -> None:
        """Ready, and known to this node's Service proxy, which hears of ready pods a moment later.
        Raises LimitReached."""
        self.await_ready(name)
        address = (self.cluster.service_address(NAMESPACE, name), ROUTER_PORT)
        until(lambda: connects(address), limit_s=PROXY_LIMIT_S, what=f"{name} takes connections")

    def deployment(self, role: str, name: str = SERVICE) -> dict[str, Any]:
        return self.cluster.read("deployment", f"{name}-{role}", namespace=NAMESPACE)

    def await_rollout(self, role: str, *, limit_s: float = ROLLOUT_LIMIT_S) -> None:
        """Old pods gone, new ones ready. Raises LimitReached."""
        generation = self.service()["metadata"]["generation"]

        def done() -> bool:
            if self.service().get("status", {}).get("observedGeneration") != generation:
                return False
            found = self.deployment(role)
            status, wanted = found.get("status", {}), found["spec"]["replicas"]
            counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas")]
            seen = status.get("observedGeneration") == found["metadata"]["generation"]
            running = len(self.pods(role))
            ready = status.get("readyReplicas", 0)
            return seen and counts == [wanted, wanted] and ready == wanted == running

        until(done, limit_s=limit_s, what=f"{role} is rolled out")

    def await_whole(self) -> None:
        """Every role rolled out and Ready. Raises LimitReached."""
        for role in ROLES:
            self.await_rollout(role, limit_s=READY_LIMIT_S)
        self.await_answering()

    def pods(self, role: str, name: str = SERVICE) -> list[str]:
        """Names of a role's pods, those that are going included."""
        selector = f"app.kubernetes.io/instance={name},app.kubernetes.io/component={role}"
        found = self.cluster.read("pods", f"--selector={selector}", namespace=NAMESPACE)
        return [pod["metadata"]["name"] for pod in found["items"]]

    def url(self, name: str = SERVICE) -> str:
        """The OpenAI base URL behind the Service's ClusterIP."""
        return f"http://{self.cluster.service_address(NAMESPACE, name)}:{ROUTER_PORT}/v1"

    @asynccontextmanager
    async def under_load(
        self, streams: int = 3, questions: Sequence[Question] = QUESTIONS
    ) -> AsyncIterator[SteadyLoad]:
        """Streams run inside; at the end every request must have been answered, unchanged."""
        load = SteadyLoad(self.url(), MODEL, questions, clock=SystemClock())
        await load.learn()
        async with load.running(streams):
            yield load
        await load.aclose()
        assert [answer.failure for answer in load.failures] == []
        assert load.changed == []
        assert len(load.answers) >= 2 * streams, "hardly anything was asked"


def connects(address: tuple[str, int]) -> bool:
    """Whether something listens there."""
    try:
        with socket.create_connection(address, timeout=CONNECT_LIMIT_S):
            return True
    except OSError:
        return False


async def meanwhile(action: Any, *arguments: Any, **named: Any) -> Any:
    """A blocking action beside the load, which goes on on the event loop."""
    return await asyncio.to_thread(action, *arguments, **named)
