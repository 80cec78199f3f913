"""One trace for a request's whole road: a real router, real decode and prefill services, gRPC and
HTTP between them, fake engines below. Each tree is all there is to see."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from baton.common.logs import configure_logs
from baton.common.otel import OtelTracing
from baton.common.tracing import Kind
from baton.worker.loop import QueueLimits
from baton.worker.watch import Role
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support.byte_tokenizer import VOCAB_SIZE
from support.fake_decode import FakeDecode, Script
from support.fake_engine import FakeEngine
from support.fake_workers import FakeWorker, running
from support.router_process import RunningRouter, running_router
from support.traces import Traces

PROMPT = "a prompt of some blocks of four"
TOKENS = 6
BODY: dict[str, Any] = {"model": "bytes", "prompt": PROMPT, "max_tokens": TOKENS}
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT_SPAN = "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE_ID}-{CLIENT_SPAN}-01"}
POST = "router: POST /v1/completions"


@dataclass
class Stack:
    traces: Traces
    router: RunningRouter
    decodes: list[FakeWorker]
    prefill: FakeWorker

    async def ask(self, **changes: Any) -> Any:
        answer = await self.router.http.post(
            "/v1/completions", json={**BODY, **changes}, headers=HEADERS
        )
        await self.traces.until_ended()
        return answer


NO_ROOM = QueueLimits(0, 0)


def worker(role: Role, traces: Traces, limits: QueueLimits | None = None) -> FakeWorker:
    return FakeWorker(
        role,
        FakeEngine(block_count=256),
        limits=limits,
        tracing=traces.tracing(role.value),
        model_name="bytes",
        vocab_size=VOCAB_SIZE,
    )


@asynccontextmanager
async def stack(
    *, decodes: int = 1, prefill_limits: QueueLimits | None = None
) -> AsyncIterator[Stack]:
    traces = Traces()
    workers = [worker(Role.DECODE, traces) for _ in range(decodes)]
    prefill = worker(Role.PREFILL, traces, prefill_limits)
    async with (
        running(*workers, prefill),
        running_router(
            workers, tracing=traces.tracing("router"), prefill_workers=(prefill.address,)
        ) as router,
    ):
        async with asyncio.timeout(5):
            while (await router.http.get("/ready")).json()["workers"]["prefill"] != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield Stack(traces, router, workers, prefill)


async def test_one_trace_goes_through_all_three_under_the_clients_span() -> None:
    async with stack() as road:
        assert (await road.ask()).status_code == 200
        traces = road.traces
        assert traces.tree(CLIENT_SPAN) == "\n".join(
            [
                POST,
                "  router: try",
                "    decode: decode",
                "      decode: queue",
                "      decode: hand-off",
                "        prefill: prefill",
                "          prefill: queue",
                "          prefill: compute",
            ]
        )
        assert {span.trace_id for span in traces.spans} == {TRACE_ID}
        assert traces.one("decode").attributes["baton.prefill.path"] == "remote"
        assert traces.one("hand-off").attributes["baton.handoff.outcome"] == "complete"
        assert traces.one("prefill").attributes["baton.bytes_sent"] > 0
        kinds = {span.name: span.kind for span in traces.spans}
        assert [name for name, kind in kinds.items() if kind is Kind.CLIENT] == ["try", "hand-off"]
        assert road.decodes[0].spans.live == road.prefill.spans.live == 0


async def test_the_request_is_told_in_the_words_of_the_conventions() -> None:
    async with stack() as road:
        await road.ask(temperature=0.5)
        request = road.traces.one("POST /v1/completions")
        told = request.attributes
        assert told["gen_ai.operation.name"] == "text_completion"
        assert told["gen_ai.request.model"] == "bytes"
        assert told["gen_ai.request.temperature"] == 0.5
        assert told["gen_ai.usage.input_tokens"] == len(PROMPT) + 1  # it has a beginning
        assert told["gen_ai.usage.output_tokens"] == TOKENS
        assert told["gen_ai.response.finish_reasons"] == ["length"]
        assert told["http.response.status_code"] == 200
        assert told["baton.tries"] == 1
        assert told["baton.outcome"] == "finished"
        assert 0 < request.event_attributes["first token"]["baton.ttft_s"] < 10
        attempt = road.traces.one("try").attributes
        assert attempt["baton.worker"] == road.decodes[0].address
        assert attempt["baton.decision.prefill_worker"] == road.prefill.address
        assert attempt["baton.decision.reason"]
        assert PROMPT not in str([span.attributes for span in road.traces.spans])


async def test_a_request_without_a_context_begins_a_trace() -> None:
    async with stack() as road:
        await road.router.http.post("/v1/completions", json=BODY)
        await road.traces.until_ended()
        assert road.traces.tree().startswith(f"{POST}\n  router: try\n    decode: decode")
        assert len({span.trace_id for span in road.traces.spans}) == 1


async def test_a_prompt_computed_on_decode_is_told_so() -> None:
    async with stack() as road:
        await road.ask(prompt="abc")
        assert road.traces.tree(CLIENT_SPAN).splitlines()[2:] == [
            "    decode: decode",
            "      decode: queue",
            "      decode: compute",
        ]
        assert road.traces.one("decode").attributes["baton.prefill.path"] == "local:no_prefill"


async def test_after_a_failed_hand_off_decode_computes() -> None:
    async with stack(prefill_limits=NO_ROOM) as road:
        assert (await road.ask()).status_code == 200
        assert road.traces.tree(CLIENT_SPAN).splitlines()[3:] == [
            "      decode: queue",
            "      decode: hand-off !refused",
            "        prefill: prefill !overloaded",
            "      decode: compute",
        ]


async def test_a_request_that_moves_has_two_tries() -> None:
    async with stack(decodes=2) as road:
        for decode in road.decodes:
            decode.ration(3)
        asked = asyncio.create_task(road.ask())
        await road.traces.until(lambda: bool(road.traces.of("decode")))
        [first] = road.traces.of("try")
        leaving, staying = sorted(
            road.decodes, key=lambda one: one.address != first.attributes["baton.worker"]
        )
        await road.traces.until(lambda: "first token" in first.events)
        await leaving.kill()
        staying.ration(None)
        assert (await asked).status_code == 200
        leaving.ration(None)
        tries = road.traces.of("try")
        assert [one.error for one in tries] == ["unavailable", None]
        assert [one.attributes["baton.worker"] for one in tries] == [
            leaving.address,
            staying.address,
        ]
        assert tries[0].attributes["baton.worker_lost"]
        told = sum(one.attributes["gen_ai.usage.output_tokens"] for one in tries)
        assert told == TOKENS
        request = road.traces.one("POST /v1/completions")
        assert request.attributes["baton.tries"] == 2
        assert request.error is None
        assert {one.parent_id for one in tries} == {request.span_id}
        workers = road.traces.of("decode")
        assert [one.parent_id for one in workers] == [one.span_id for one in tries]
        assert workers[0].attributes["gen_ai.response.finish_reasons"] == ["cancelled"]


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed"])
async def test_an_abandoned_request_ends_its_spans(whole: bool) -> None:
    async with stack() as road:
        road.decodes[0].ration(4)
        if whole:
            asked = asyncio.create_task(road.router.http.post("/v1/completions", json=BODY))
            await road.traces.until(lambda: bool(road.traces.of("decode")))
            await road.traces.until(lambda: "first token" in road.traces.one("decode").events)
            asked.cancel()
        else:
            stream = await road.router.openai.completions.create(**BODY, stream=True)
            await anext(aiter(stream))
            await stream.close()
        await road.traces.until(lambda: road.traces.one("try").ended)
        road.decodes[0].nudge()
        await road.traces.until_ended()
        [request] = [span for span in road.traces.spans if not span.parent_id]
        assert request.attributes["baton.outcome"] == "client_gone"
        assert request.attributes["http.response.status_code"] == (499 if whole else 200)
        decode = road.traces.one("decode")
        assert decode.attributes["gen_ai.response.finish_reasons"] == ["cancelled"]
        assert decode.error is None
        assert road.decodes[0].spans.live == 0


async def test_a_stream_is_one_request_until_its_end() -> None:
    async with stack() as road:
        stream = await road.router.openai.completions.create(**BODY, stream=True)
        assert len([chunk async for chunk in stream]) >= TOKENS
        await road.traces.until_ended()
        request = road.traces.one("POST /v1/completions")
        assert request.attributes["gen_ai.request.stream"]
        assert request.attributes["gen_ai.usage.output_tokens"] == TOKENS


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_errors_are_told_by_their_code(stream: bool) -> None:
    traces = Traces()
    async with (
        FakeDecode(Script(fail_after=2)) as failing,
        running_router([failing], tracing=traces.tracing("router")) as router,
    ):
        await router.http.post("/v1/completions", json={**BODY, "stream": stream})
        await router.http.post("/v1/completions", json={**BODY, "model": "another"})
        await router.http.post("/v1/completions", json={**BODY, "max_tokens": -1})
        await router.http.get("/v1/nothing")
        await router.http.get("/health")
        await traces.until_ended()
    assert traces.tree() == "\n".join(
        [
            f"{POST} !engine_failure",
            "  router: try !engine_failure",
            f"{POST} !model_not_found",
            f"{POST} !invalid_request",
            "router: GET unknown !not_found",
        ]
    )


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that is logged as JSON lines."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logs("test", stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


async def test_log_lines_of_a_request_name_its_trace(log: io.StringIO) -> None:
    async with stack(prefill_limits=NO_ROOM) as road:
        await road.ask()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    told = {line["message"]: line.get("trace_id") for line in lines if "request_id" in line}
    assert told == dict.fromkeys(
        ["request dispatched", "hand-off failed", "request ended"], TRACE_ID
    )


async def test_untraced_nothing_travels_and_nothing_is_logged(log: io.StringIO) -> None:
    async with FakeDecode() as decode, running_router([decode]) as router:
        await router.http.post("/v1/completions", json=BODY, headers=HEADERS)
        assert not decode.submits[0].HasField("traceparent")
    assert "trace_id" not in log.getvalue()


async def test_opentelemetry_takes_all_that_a_router_tells(
    caplog: pytest.LogCaptureFixture,
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = OtelTracing(provider)
    async with FakeDecode() as decode, running_router([decode], tracing=tracing) as router:
        await router.http.post("/v1/completions", json=BODY, headers=HEADERS)
        await router.openai.completions.create(**BODY, n=2)
        assert await router.traffic.wait_idle(5)
        contexts = {submit.traceparent.split("-")[2] for submit in decode.submits}
    ended = exporter.get_finished_spans()
    assert sorted(span.name for span in ended) == ["POST /v1/completions"] * 2 + ["try"] * 3
    tries = {f"{span.context.span_id:016x}" for span in ended if span.name == "try"}
    assert contexts == tries
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []
