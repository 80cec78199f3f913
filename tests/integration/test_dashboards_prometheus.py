"""A real Prometheus over real processes: every query of boards and alerts has an answer.

Router, prefill and decode run as in pods, each with its metrics port, on a tiny model. What only an
operator or TLS brings is asked for in tests/cluster.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import httpx
import pytest
from baton.engine.params import SamplingParams
from baton.model.config import Family
from baton.rpc.convert import params_to_wire
from baton.rpc.v1 import decode_pb2, decode_pb2_grpc
from support.observed_queries import alert_queries, board_queries, needs_cluster
from support.prometheus_server import Prometheus, running_prometheus, static_targets
from support.prometheus_tools import prometheus_tools
from support.stack import free_port
from support.tiny_models import tiny_model

READY_LIMIT_S = 120.0
STOP_LIMIT_S = 40.0
DATA_LIMIT_S = 60.0
ASK_LIMIT_S = 60.0
POLL_S = 0.1

MODEL_NAME = "tiny"
OUTPUT_TOKENS, PROMPT_TOKENS = 8, 70
PROMPT = "the quick brown fox jumps over the lazy dog and runs away again " * 2


# Three processes load torch: a second on an idle machine, a minute beside other tests.
pytestmark = pytest.mark.timeout(600)


@contextmanager
def process(role: str, folder: Path, *flags: str) -> Iterator[Callable[[], str]]:
    """A process of Baton; the address of its metrics port, once it is ready."""
    metrics_port = free_port()
    with (folder / f"{role}.log").open("wb") as log:
        child = subprocess.Popen(
            [
                *(sys.executable, "-m", f"baton.{role}", "--model-name", MODEL_NAME),
                *("--metrics-port", str(metrics_port), *flags),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    try:
        yield lambda: ready_address(child, f"127.0.0.1:{metrics_port}", folder / f"{role}.log")
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(STOP_LIMIT_S)


def ready_address(child: "subprocess.Popen[bytes]", address: str, log: Path) -> str:
    deadline_s = time.monotonic() + READY_LIMIT_S
    while True:
        assert child.poll() is None, f"ended:\n{log.read_text()}"
        assert time.monotonic() < deadline_s, f"not ready:\n{log.read_text()}"
        try:
            if httpx.get(f"http://{address}/ready", trust_env=False).status_code == 200:
                return address
        except httpx.TransportError:
            pass
        time.sleep(POLL_S)


class Load:
    """One client that asks until it is told to stop, each time for something new.

    Asks decode as a router would, too, and names the prefill worker: whether the router's own
    decisions are for it depends on how busy the machine is.
    """

    def __init__(self, url: str, *, decode: str, prefill: str) -> None:
        self._url = url
        self._decode, self._prefill = decode, prefill
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._asked = 0

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(ASK_LIMIT_S)

    def _run(self) -> None:
        with (
            httpx.Client(base_url=self._url, trust_env=False, timeout=ASK_LIMIT_S) as client,
            grpc.insecure_channel(self._decode) as channel,
        ):
            stub = decode_pb2_grpc.DecodeStub(channel)
            while not self._stopping.is_set():
                self._asked += 1
                body = {
                    "model": MODEL_NAME,
                    "prompt": f"{self._asked} {PROMPT}",
                    "max_tokens": OUTPUT_TOKENS,
                    "ignore_eos": True,
                }
                client.post("/v1/completions", json=body).raise_for_status()
                list(stub.Stream(iter([self._submission()]), timeout=ASK_LIMIT_S))

    def _submission(self) -> decode_pb2.DecodeCommand:
        """A prompt of several blocks that no cache has."""
        prompt = [3 + (self._asked + position) % 61 for position in range(PROMPT_TOKENS)]
        return decode_pb2.DecodeCommand(
            submit=decode_pb2.Submit(
                request_id=f"direct-{self._asked}",
                prompt_token_ids=prompt,
                sampling=params_to_wire(SamplingParams(OUTPUT_TOKENS, ignore_eos=True)),
                deadline_s=ASK_LIMIT_S,
                prefill_candidates=[self._prefill],
            )
        )


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Scrapes a stack under load, and has the load in its recorded rates."""
    prometheus_tools()
    folder = tmp_path_factory.mktemp("observed")
    model = f"file://{tiny_model(Family.LLAMA, folder, gguf=True).path}"
    ports = {role: free_port() for role in ("prefill", "decode", "router")}
    with ExitStack() as stack:
        started = {
            role: stack.enter_context(
                process(role, folder, "--model", model, "--port", str(ports[role]))
            )
            for role in ("prefill", "decode")
        }
        started["router"] = stack.enter_context(
            process(
                "router",
                folder,
                *("--model", model, "--port", str(ports["router"])),
                *("--prefill-workers", f"127.0.0.1:{ports['prefill']}"),
                *("--decode-workers", f"127.0.0.1:{ports['decode']}"),
                *("--slo-ttft-s", "0.5", "--slo-itl-s", "0.05"),
            )
        )
        targets = {
            ready(): {"namespace": "shop", "service": "chat", "role": role, "pod": f"{role}-1"}
            for role, ready in started.items()
        }
        found = stack.enter_context(running_prometheus(folder, [static_targets(targets)]))
        addresses = {role: f"127.0.0.1:{port}" for role, port in ports.items()}
        stack.enter_context(
            Load(
                f"http://{addresses['router']}",
                decode=addresses["decode"],
                prefill=addresses["prefill"],
            )
        )
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
