"""The load client against a server that is a function, in virtual time."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from baton.common.errors import BatonError, DeadlineExceeded, Unavailable
from baton_loadtest.client import LoadClient
from baton_loadtest.stats import Observation
from baton_loadtest.workload import PlannedRequest, plan_requests


class LoopClock:
    """The event loop's time, which looptime moves."""

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    def unix_s(self) -> float:
        return self.monotonic_s()


class Script(httpx.AsyncByteStream):
    """Events of a stream, each with the seconds to wait before it."""

    def __init__(self, *events: tuple[float, object]) -> None:
        self._events = events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for delay_s, event in self._events:
            await asyncio.sleep(delay_s)
            yield f"data: {json.dumps(event)}\n\n".encode()
        yield b"data: [DONE]\n\n"


def text(piece: str) -> dict[str, object]:
    return {"choices": [{"text": piece}], "usage": None}


def usage(tokens: int, cached: int = 0) -> dict[str, object]:
    details = {"cached_tokens": cached}
    return {
        "choices": [],
        "usage": {"completion_tokens": tokens, "prompt_tokens_details": details},
    }


def plan(count: int = 1, rate_per_s: float | None = None) -> tuple[PlannedRequest, ...]:
    return plan_requests(count, prompt_tokens=4, output_tokens=3, seed=0, rate_per_s=rate_per_s)


async def run(
    answer: Callable[[httpx.Request], httpx.Response],
    requests: tuple[PlannedRequest, ...],
    limit_s: float = 60.0,
) -> tuple[Observation, ...]:
    transport = httpx.MockTransport(answer)
    async with httpx.AsyncClient(transport=transport, base_url="http://baton.test") as http:
        return await LoadClient(http, "m", clock=LoopClock()).run(requests, limit_s=limit_s)


def streaming(*events: tuple[float, object]) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(200, stream=Script(*events))


@pytest.mark.looptime
async def test_times_are_those_of_the_chunks_that_carry_text() -> None:
    [seen] = await run(
        streaming((2, text("a")), (1, text("")), (1, text("bc")), (0, usage(3, cached=2))), plan()
    )
    assert (seen.ttft_s, seen.gaps_s) == (pytest.approx(2), pytest.approx((2,)))
    assert (seen.prompt_tokens, seen.output_tokens, seen.cached_tokens) == (4, 3, 2)


@pytest.mark.looptime
async def test_order_is_a_greedy_completion_of_exactly_so_many_tokens() -> None:
    sent: list[dict[str, object]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(200, stream=Script((1, text("a")), (1, text("b")), (0, usage(3))))

    [request] = plan()
    await run(answer, (request,))
    assert sent[0]["prompt"] == list(request.prompt)
    assert (sent[0]["max_tokens"], sent[0]["ignore_eos"], sent[0]["temperature"]) == (3, True, 0)


@pytest.mark.looptime
async def test_requests_run_at_once_or_at_their_time() -> None:
    answer = streaming((1, text("a")), (1, text("b")), (0, usage(3)))
    assert [one.sent_s for one in await run(answer, plan(5))] == [0.0] * 5
    planned = plan(5, rate_per_s=1.0)
    began_s = asyncio.get_running_loop().time()
    sent = [one.sent_s - began_s for one in await run(answer, planned)]
    assert sent == pytest.approx([request.start_s for request in planned], abs=0.01)


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(lambda _: httpx.Response(503, text="draining"), "draining", id="refused"),
        pytest.param(
            streaming((1, text("a")), (1, {"error": {"message": "worker lost"}})),
            "worker lost",
            id="broken",
        ),
        pytest.param(
            streaming((1, text("a")), (1, text("b")), (0, usage(2))), "says 2", id="too-few"
        ),
        pytest.param(streaming((1, text("abc")), (0, usage(3))), "not a stream", id="one-chunk"),
    ],
)
async def test_one_wrong_answer_fails_the_run(
    answer: Callable[[httpx.Request], httpx.Response], says: str
) -> None:
    with pytest.raises(Unavailable, match=says):
        await run(answer, plan(3))


@pytest.mark.looptime
async def test_a_server_that_hangs_ends_the_run_at_the_limit() -> None:
    with pytest.raises(DeadlineExceeded, match="1 requests did not finish within 30 s"):
        await run(streaming((1e6, text("late"))), plan(), limit_s=30.0)


@pytest.mark.looptime
async def test_no_server_is_a_clear_error() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    with pytest.raises(BatonError, match="connection refused"):
        await run(refuse, plan())
