"""A real Prometheus over real processes: every query of boards and alerts has an answer.

Router, prefill and decode run as in pods, each with its metrics port, on a tiny model. What only an
operator or TLS brings is asked for in tests/cluster.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from baton.model.config import Family
from support.faults_load import Clients, HandOffs, Question
from support.faults_processes import BatonProcess, running
from support.observed_queries import alert_queries, board_queries, needs_cluster
from support.prometheus_server import Prometheus, running_prometheus, static_targets
from support.prometheus_tools import prometheus_tools
from support.tenant_files import KEYS, entry, write_register
from support.tiny_models import tiny_model

DATA_LIMIT_S = 60.0
MODEL_NAME = "tiny"

# Three processes load torch: a second on an idle machine, a minute beside other tests.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Scrapes a stack under load, and has the load in its recorded rates."""
    prometheus_tools()
    folder = tmp_path_factory.mktemp("observed")
    model = f"file://{tiny_model(Family.LLAMA, folder, gguf=True).path}"
    common = ("--model", model, "--model-name", MODEL_NAME)
    prefill = BatonProcess("prefill", folder, *common)
    decode = BatonProcess("decode", folder, *common)
    router = BatonProcess(
        "router",
        folder,
        *common,
        *("--prefill-workers", prefill.address, "--decode-workers", decode.address),
        *("--slo-ttft-s", "0.5", "--slo-itl-s", "0.05"),
        *("--api-keys-file", str(write_register(folder / "keys.json", entry("red")))),
    )
    where = {"namespace": "shop", "service": "chat"}
    targets = {
        one.metrics_address: {**where, "role": one.role, "pod": f"{one.role}-1"}
        for one in (prefill, decode, router)
    }
    clients = Clients(f"http://{router.address}", MODEL_NAME, KEYS["red"])
    with ExitStack() as stack:
        stack.enter_context(running(prefill, decode, router))
        found = stack.enter_context(running_prometheus(folder, [static_targets(targets)]))
        stack.enter_context(clients.asking(1, Question()))
        stack.enter_context(HandOffs(decode.address, prefill.address).asking())
        # What needs the most: two scrapes with requests between, then one evaluation.
        found.wait_for('service_slo:baton_slo_missed:ratio_rate5m{slo="itl"} >= 0', DATA_LIMIT_S)
        found.wait_for("rate(baton_handoff_seconds_count[15s]) > 0", DATA_LIMIT_S)
        found.wait_for("rate(vllm:request_decode_time_seconds_count[15s]) > 0", DATA_LIMIT_S)
        yield found


def test_every_panel_shows_data(prometheus: Prometheus) -> None:
    queries = {name: expr for name, expr in board_queries().items() if not needs_cluster(expr)}
    assert len(queries) > 60
    assert prometheus.problems(queries) == []


def test_every_alert_has_something_to_compare(prometheus: Prometheus) -> None:
    queries = {name: expr for name, expr in alert_queries().items() if not needs_cluster(expr)}
    assert len(queries) > 10
    assert prometheus.problems(queries) == []


def test_prometheus_takes_what_only_a_cluster_answers(prometheus: Prometheus) -> None:
    queries = {**board_queries(), **alert_queries()}
    for expr in filter(needs_cluster, queries.values()):
        prometheus.query(expr)  # raises for what it does not take


def test_a_query_without_an_answer_would_be_noticed(prometheus: Prometheus) -> None:
    wrong = {"gone": "baton_nonsense", "no number": "vector(0) / 0"}
    assert prometheus.problems(wrong) == [
        "gone: no data: baton_nonsense",
        "no number: NaN: vector(0) / 0",
    ]


def test_the_missing_operator_is_noticed_and_nothing_fires(prometheus: Prometheus) -> None:
    states = prometheus.alert_states()
    assert states["BatonOperatorNotLeading"] == "pending"
    assert "firing" not in states.values()
