"""Signals of routers: who does not answer well and in time is left out; the others are heard."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from baton.common.signals import RouterSignals, encode_signals
from baton_operator.collect import ASK_TIMEOUT_S, BODY_BYTES_MAX, SignalCollector
from support.hand_clock import HandClock
from support.router_signals import quiet_traffic

SIGNALS = RouterSignals(
    model_name="m",
    incarnation=7,
    traffic=quiet_traffic(),
    workers=(),
)
Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]


async def well(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=encode_signals(SIGNALS))


async def never(_: httpx.Request) -> httpx.Response:
    await asyncio.sleep(3_600.0)
    raise AssertionError("nobody waits for this")


async def refused(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


async def starting(_: httpx.Request) -> httpx.Response:
    return httpx.Response(503)


async def elsewhere(_: httpx.Request) -> httpx.Response:
    return httpx.Response(302, headers={"Location": "http://10.9.9.9/"})


async def nonsense(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=b'{"model_name": 3}')


async def endless(_: httpx.Request) -> httpx.Response:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b" " * (BODY_BYTES_MAX // 4)

    return httpx.Response(200, content=parts())


async def collected(answers: dict[str, Answer]) -> dict[str, int]:
    """Hosts that were heard are not told apart, so each router has its place as incarnation."""
    asked: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return await answers[request.url.host](request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        heard = await SignalCollector(client, HandClock(42.0)).collect(list(answers))
    assert len(asked) == len(answers)
    assert all(one.asked_s == 42.0 and one.signals == SIGNALS for one in heard)
    return {"heard": len(heard), "asked": len(asked)}


@pytest.mark.looptime
@pytest.mark.parametrize("other", [never, refused, starting, elsewhere, nonsense, endless])
async def test_one_bad_router_does_not_silence_the_others(other: Answer) -> None:
    began_s = asyncio.get_running_loop().time()
    answers = {"10.0.0.1": well, "10.0.0.2": other, "10.0.0.3": well}
    assert await collected(answers) == {"heard": 2, "asked": 3}
    assert asyncio.get_running_loop().time() - began_s <= ASK_TIMEOUT_S + 0.1


@pytest.mark.looptime
async def test_hundreds_of_silent_routers_take_turns_and_end() -> None:
    answers = {f"10.0.{n // 200}.{n % 200 + 1}": never for n in range(300)}
    assert await collected(answers) == {"heard": 0, "asked": 300}


@pytest.mark.looptime
async def test_routers_are_asked_on_their_metrics_port() -> None:
    asked = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return await well(request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        await SignalCollector(client, HandClock()).collect(["10.0.0.1", "fd00::7"])
    assert asked == ["http://10.0.0.1:9090/signals", "http://[fd00::7]:9090/signals"]


async def test_without_routers_nobody_is_asked() -> None:
    assert await collected({}) == {"heard": 0, "asked": 0}
