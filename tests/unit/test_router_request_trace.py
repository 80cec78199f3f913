"""What a request's way over the workers tells in traces."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

from baton.common.errors import Unavailable
from baton.common.tracing import NO_PARENT, Kind
from baton.engine.params import FinishReason
from baton.router.request_trace import RequestTrace
from baton.router.work import Work
from support.fake_fleet import LOST, WORK, FakeLinks, Fleet, decode_worker, dispatcher, ran, tokens
from support.traces import Traces

STOP = FinishReason.STOP
A, B = (decode_worker(address) for address in "ab")


def traced(traces: Traces) -> Work:
    span = traces.tracing("router").begin("request", Kind.SERVER, NO_PARENT, {})
    return replace(WORK, trace=RequestTrace(span))


async def test_each_try_is_a_span_whose_context_goes_along() -> None:
    traces = Traces()
    links = FakeLinks([tokens(5), LOST], [tokens(6, 7, finish=STOP)])
    await ran(links, Fleet(A, B), traced(traces))
    assert traces.tree() == "router: request\n  router: try !unavailable\n  router: try"
    tries = traces.of("try")
    assert [ticket.submission.traceparent for ticket in links.tickets] == [
        each.traceparent for each in tries
    ]
    assert all(each.ended for each in tries)
    assert [each.attributes["gen_ai.usage.output_tokens"] for each in tries] == [1, 2]
    assert [each.attributes["baton.output_tokens_before"] for each in tries] == [0, 1]
    assert tries[1].attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert traces.one("request").attributes["baton.tries"] == 2


async def test_a_try_ends_when_nobody_wants_its_tokens_any_more() -> None:
    traces = Traces()
    links = FakeLinks([tokens(5), tokens(6)])
    async with aclosing(dispatcher(links, Fleet(A)).run(traced(traces))) as updates:
        await anext(updates)
    [attempt] = traces.of("try")
    assert attempt.ended
    assert attempt.error is None
    assert attempt.attributes["gen_ai.usage.output_tokens"] == 1


async def test_a_worker_that_cannot_be_reached_is_a_try_too() -> None:
    traces = Traces()
    links = FakeLinks(Unavailable("no"), [tokens(6, finish=STOP)])
    await ran(links, Fleet(A, B), traced(traces))
    assert [each.error for each in traces.of("try")] == ["unavailable", None]


async def test_the_wait_for_a_worker_is_told() -> None:
    traces = Traces()
    fleet = Fleet()
    running = asyncio.create_task(ran(FakeLinks([tokens(6, finish=STOP)]), fleet, traced(traces)))
    await fleet.until_held(1)
    fleet.becomes(A)
    await running
    assert list(traces.one("request").events) == ["waited for a worker"]
