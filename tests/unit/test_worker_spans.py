"""What a worker's turns tell of its requests: waits and computing by the engine thread's stamps."""

import asyncio
from collections.abc import Sequence

import pytest
from baton.common.errors import Draining, PromptTooLong
from baton.common.tracing import NO_TRACING
from baton.engine.messages import EngineLoad, Event, StepReport, Tokens
from baton.engine.params import FinishReason, TokenSample
from baton.worker.spans import RequestSpan, RequestSpans
from baton.worker.turns import Turn
from support.traces import Traces

LOAD = EngineLoad(0, 0, 0, 0, 0)
TWO = (TokenSample(7), TokenSample(8))


def turn(
    planned_s: float, ended_s: float, *, admitted: Sequence[str] = (), events: Sequence[Event] = ()
) -> Turn:
    report = StepReport(tuple(events), (), (), LOAD, admitted=tuple(admitted))
    return Turn(report, (), ended_s - planned_s, planned_s, ended_s)


class Worker:
    def __init__(self) -> None:
        self.traces = Traces()
        self.spans = RequestSpans(self.traces.tracing("decode"))

    def begin(self, engine_id: str = "a", *, computes: bool = True) -> RequestSpan:
        request = self.spans.begin("decode", "", {})
        request.follow(engine_id, computes=computes)
        return request


@pytest.fixture
def worker() -> Worker:
    return Worker()


async def test_a_request_waits_computes_and_generates(worker: Worker) -> None:
    request = worker.begin()
    worker.spans.observe(turn(1.0, 2.0, admitted=["a", "stranger"]))
    worker.spans.observe(turn(2.0, 3.0, events=[Tokens("stranger", TWO)]))
    worker.spans.observe(turn(3.0, 4.0, events=[Tokens("a", TWO, cached_tokens=16)]))
    worker.spans.observe(turn(4.0, 5.0, events=[Tokens("a", TWO, finish=FinishReason.STOP)]))
    request.end(FinishReason.STOP)
    assert worker.traces.one("queue").ended_s == 1.0
    compute = worker.traces.one("compute")
    assert (compute.began_s, compute.ended_s) == (1.0, 4.0)
    span = worker.traces.one("decode")
    assert span.events == {"first token": 4.0}
    assert span.attributes == {
        "gen_ai.usage.cache_read.input_tokens": 16,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.response.finish_reasons": ["stop"],
        "baton.preemptions": 0,
    }
    assert span.error is None
    assert worker.spans.live == 0


async def test_what_waits_for_kv_does_not_compute_until_told(worker: Worker) -> None:
    request = worker.begin(computes=False)
    worker.spans.observe(turn(1.0, 2.0, admitted=["a"]))
    assert worker.traces.tree() == "decode: decode\n  decode: queue"
    request.computing()
    worker.spans.observe(turn(2.0, 3.0, events=[Tokens("a", TWO)]))
    assert worker.traces.one("compute").ended_s == 3.0


async def test_a_preemption_is_an_event_and_a_count(worker: Worker) -> None:
    request = worker.begin()
    worker.spans.observe(turn(1.0, 2.0, admitted=["a"], events=[Tokens("a", TWO)]))
    worker.spans.observe(turn(5.0, 6.0, admitted=["a"]))
    request.end(FinishReason.LENGTH)
    span = worker.traces.one("decode")
    assert span.attributes["baton.preemptions"] == 1
    assert span.events["computed again after a preemption"] == 5.0
    assert len(worker.traces.of("compute")) == 1


@pytest.mark.parametrize(
    ("finish", "error", "code"),
    [
        (FinishReason.STOP, None, None),
        (FinishReason.CANCELLED, None, None),
        (FinishReason.DEADLINE, None, "deadline_exceeded"),
        (FinishReason.ERROR, None, "engine_failure"),
        (FinishReason.ERROR, PromptTooLong("long"), "context_length_exceeded"),
        (None, Draining("going"), "draining"),
    ],
)
async def test_every_end_ends_all_and_says_why(
    worker: Worker,
    finish: FinishReason | None,
    error: PromptTooLong | Draining | None,
    code: str | None,
) -> None:
    worker.begin().end(finish, error)
    assert all(span.ended for span in worker.traces.spans)
    assert worker.traces.one("decode").error == code
    assert worker.spans.live == 0


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (Draining("going"), "draining"),
        (asyncio.CancelledError(), None),
        (RuntimeError("a bug"), "engine_failure"),
    ],
)
async def test_a_block_ends_as_it_is_left(
    worker: Worker, raised: BaseException, code: str | None
) -> None:
    with pytest.raises(type(raised)), worker.begin():
        raise raised
    assert worker.traces.one("decode").error == code
    assert all(span.ended for span in worker.traces.spans)


def test_untraced_no_request_is_followed() -> None:
    spans = RequestSpans(NO_TRACING)
    request = spans.begin("decode", "", {})
    request.follow("a", computes=True)
    assert spans.live == 0
    spans.observe(turn(1.0, 2.0, admitted=["a"], events=[Tokens("a", TWO)]))
    request.end(FinishReason.STOP)
