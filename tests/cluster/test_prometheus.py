"""A real Prometheus over the pods of a real release: every query answers, and a fault is noticed.

Discovers pods as the chart's PodMonitors do. Loads the chart's own rules, with time compressed.
Alert by alert is made to fire in tests/integration and tests/cluster/apiserver.
"""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cluster.harness.commands import until
from cluster.release import MODEL, NAMESPACE, SERVICE, Release
from openai import OpenAI, OpenAIError
from support.observed_queries import alert_queries, board_queries, needs_tenants
from support.prometheus_server import (
    Prometheus,
    listed_targets,
    pod_targets,
    running_prometheus,
)

FACTOR = 20.0  # the shortest range of a rule is 15 s: every request's end is in some
DATA_LIMIT_S = 180.0
ALERT_LIMIT_S = 240.0
ASK_LIMIT_S = 120.0
FOLLOW_INTERVAL_S = 3.0
OPERATOR = "deployment/baton-operator"

CLIENTS, PAUSE_S = 4, 3.0
"""Without a decode worker routers hold a request of each client, and are soon asked no more: each
client fails once, after its successes of the last 180 s, which are an hour of the rules. So many
seconds between two of them, and that one is more than 1.44 percent, however fast the engine."""

pytestmark = pytest.mark.timeout(1_200)


@contextmanager
def asking(url: str) -> Iterator[None]:
    """Prompts long enough for a hand-off, each a new one; failures are the server's to count."""
    stopping = threading.Event()
    numbers = itertools.count()

    def ask() -> None:
        while not stopping.is_set():
            prompt = f"Chapter {next(numbers)}. " + "It was a dark and stormy night in Paris. " * 12
            # A client each, so a connection each: every router gets its share.
            with (
                suppress(OpenAIError),
                OpenAI(base_url=url, api_key="none", max_retries=0, timeout=ASK_LIMIT_S) as client,
            ):
                client.completions.create(model=MODEL, prompt=prompt, max_tokens=8)
            stopping.wait(PAUSE_S)

    threads = [threading.Thread(target=ask, name="asking", daemon=True) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    yield
    stopping.set()
    for thread in threads:
        thread.join(ASK_LIMIT_S)


@contextmanager
def followed_pods(release: Release, path: Path) -> Iterator[None]:
    """While it lasts, `path` lists the pods there are."""
    stopping = threading.Event()

    def follow() -> None:
        selector = "--selector=app.kubernetes.io/name=baton"
        while not stopping.is_set():
            pods = release.cluster.read("pods", selector, namespace=NAMESPACE)["items"]
            written = path.with_suffix(".new")
            written.write_text(json.dumps(pod_targets(pods)), encoding="utf-8")
            written.replace(path)  # Prometheus never reads half a list
            stopping.wait(FOLLOW_INTERVAL_S)

    thread = threading.Thread(target=follow, name="following pods", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(ASK_LIMIT_S)


@pytest.fixture(scope="module")
def prometheus(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Scrapes a release that serves, and whose decode role the operator scales."""
    scaled = {"minReplicas": 1, "maxReplicas": 1}
    release.patch({"decode": {"replicas": None, "scaling": scaled}})
    folder = tmp_path_factory.mktemp("observed")
    listed = folder / "pods.json"
    with (
        followed_pods(release, listed),
        running_prometheus(folder, [listed_targets(listed)], factor=FACTOR) as found,
        asking(release.url()),
    ):
        try:
            yield found
        finally:
            release.patch({"decode": {"replicas": 2, "scaling": None}})
            release.await_whole()  # for the files after this one


def test_every_panel_and_every_alert_has_an_answer(prometheus: Prometheus) -> None:
    for name in (
        "baton_handoff_seconds_count",
        "vllm:request_decode_time_seconds_count",
        "controller_runtime_reconcile_time_seconds_count",
    ):
        prometheus.wait_for(f"rate({name}[1m]) > 0", DATA_LIMIT_S)
    prometheus.wait_for("baton_operator_scaling_changes_total", DATA_LIMIT_S)
    prometheus.wait_for('service_slo:baton_slo_missed:ratio_rate5m{slo="itl"} >= 0', DATA_LIMIT_S)
    asked = {**board_queries(), **alert_queries()}
    asked = {name: expr for name, expr in asked.items() if not needs_tenants(expr)}
    assert prometheus.problems(asked) == []


def test_every_pod_is_scraped_with_its_service_and_role(prometheus: Prometheus) -> None:
    for role in ("router", "prefill", "decode"):
        where = f'namespace="{NAMESPACE}",service="{SERVICE}",role="{role}"'
        prometheus.wait_for(f"baton_build_info{{{where}}}", DATA_LIMIT_S)
    prometheus.wait_for("leader_election_master_status == 1", DATA_LIMIT_S)


def test_losing_operator_and_decode_is_noticed_and_forgotten(
    release: Release, prometheus: Prometheus
) -> None:
    expected = {
        "BatonOperatorNotLeading",
        "BatonNoDecodeWorker",
        "BatonRequestsHeld",
        "BatonErrorBudgetBurnFast",
    }
    scale = ("scale", "--replicas")
    release.cluster.kubectl(*scale, "0", OPERATOR, namespace=NAMESPACE)
    try:
        decode = f"deployment/{SERVICE}-decode"
        release.cluster.kubectl(*scale, "0", decode, namespace=NAMESPACE)
        until(_fires(prometheus, expected), limit_s=ALERT_LIMIT_S, what="alerts fire")
    finally:
        release.cluster.kubectl(*scale, "2", OPERATOR, namespace=NAMESPACE)
    gone = expected - {"BatonErrorBudgetBurnFast"}  # that one remembers for minutes
    until(_silent(prometheus, gone), limit_s=ALERT_LIMIT_S, what="alerts end")


def _fires(prometheus: Prometheus, expected: set[str]) -> Callable[[], bool]:
    """Each of them at least once since; a held request ends, and so may its alert."""
    seen: set[str] = set()

    def done() -> bool:
        states = prometheus.alert_states()
        seen.update(name for name, state in states.items() if state == "firing")
        return expected <= seen

    return done


def _silent(prometheus: Prometheus, names: set[str]) -> Callable[[], bool]:
    return lambda: names.isdisjoint(prometheus.alert_states())
