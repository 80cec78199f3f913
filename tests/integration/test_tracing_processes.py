"""Tracing as processes do it: by their environment, to a real HTTP server, a dead one, or not."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from baton.rpc.v1 import decode_pb2
from support.collector import collector
from support.fake_engine import greedy
from support.fake_workers import RouterClient, submit_command
from support.worker_processes import WorkerProcess, free_port, worker_process

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PROMPT = list(range(1, 31))
LEAVES_WITHIN_S = 15.0
OFF = {"OTEL_EXPORTER_OTLP_ENDPOINT": "", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": ""}


async def ask(decode: WorkerProcess, *candidates: str) -> None:
    async with RouterClient(decode.address) as router:
        traceparent = f"00-{TRACE_ID}-{SPAN_ID}-01"
        command = submit_command(
            "r", PROMPT, greedy(6), candidates=candidates, traceparent=traceparent
        )
        await router.send(command)
        ended = await router.finished("r")
        assert ended.finish_reason == decode_pb2.FINISH_REASON_LENGTH, ended.error
        assert len(router.tokens("r")) == 6


async def stopped(worker: WorkerProcess) -> None:
    worker.signal(signal.SIGTERM)
    assert await worker.ended(LEAVES_WITHIN_S) == 0


def modules(directory: Path) -> set[str]:
    """That a worker had loaded when it ended."""
    return set((directory / "modules").read_text().splitlines())


async def test_spans_of_both_roles_arrive_as_otlp(tmp_path: Path) -> None:
    with collector() as kept:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": kept.url,
            "OTEL_RESOURCE_ATTRIBUTES": "k8s.namespace.name=serving",
        }
        async with (
            worker_process("prefill", tmp_path / "p", environ=environ) as prefill,
            worker_process("decode", tmp_path / "d", environ=environ) as decode,
        ):
            await ask(decode, prefill.address)
            await asyncio.gather(stopped(decode), stopped(prefill))
        assert {each["service.name"] for each in kept.resources} == {
            "baton-decode",
            "baton-prefill",
        }
        assert {each["k8s.namespace.name"] for each in kept.resources} == {"serving"}
        assert {span.trace_id.hex() for span in kept.spans} == {TRACE_ID}
        parents = {span.span_id: span.name for span in kept.spans}
        assert sorted((parents.get(span.parent_span_id, ""), span.name) for span in kept.spans) == [
            ("", "decode"),
            ("decode", "hand-off"),
            ("decode", "queue"),
            ("hand-off", "prefill"),
            ("prefill", "compute"),
            ("prefill", "queue"),
        ]
        [root] = [span for span in kept.spans if span.parent_span_id.hex() == SPAN_ID]
        assert root.name == "decode"
        assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in kept.spans)


async def test_a_service_may_have_another_name(tmp_path: Path) -> None:
    with collector() as kept:
        environ = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{kept.url}/v1/traces",
            "OTEL_SERVICE_NAME": "chat-decode",
        }
        async with worker_process("decode", tmp_path, environ=environ) as decode:
            await ask(decode)
            await stopped(decode)
        assert {each["service.name"] for each in kept.resources} == {"chat-decode"}


async def test_a_dead_collector_disturbs_no_request_and_no_exit(tmp_path: Path) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    async with worker_process("decode", tmp_path, environ=environ) as decode:
        for _ in range(3):
            await ask(decode)
        await stopped(decode)


async def test_a_worker_that_is_not_asked_to_trace_loads_nothing_for_it(tmp_path: Path) -> None:
    async with worker_process("decode", tmp_path, environ=OFF) as decode:
        await ask(decode)
        await stopped(decode)
    loaded = modules(tmp_path)
    assert "baton.decode.stream" in loaded
    assert {name for name in loaded if name.startswith("opentelemetry")} == set()
    assert "baton.common.otel" not in loaded


ROUTER = """
import sys
from baton.common.tracing_choice import open_tracing
import baton.router.process
open_tracing({environ}, service_name="baton-router")
print(*sys.modules)
"""


def loaded_by_router(environ: Mapping[str, str]) -> set[str]:
    program = ROUTER.format(environ=dict(environ))
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return set(told.stdout.decode().split())


def test_nor_does_a_router_load_an_sdk_or_an_exporter() -> None:
    """FastAPI brings OpenTelemetry's API along, whatever is asked of it."""
    sdk = {"opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter"}
    assert loaded_by_router({}).isdisjoint({*sdk, "baton.common.otel"})
    assert sdk <= loaded_by_router({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
