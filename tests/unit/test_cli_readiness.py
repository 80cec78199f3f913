"""Waiting for the router, in virtual time."""

import asyncio

import httpx
import pytest
from baton.cli.readiness import wait_ready
from baton.common.errors import DeadlineExceeded


class LoopClock:
    """The event loop's time, which looptime moves."""

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    def unix_s(self) -> float:
        return self.monotonic_s()


def serving_from(second: float) -> httpx.AsyncClient:
    """No server until `second`, then one that is starting for another second, then a ready one."""

    def answer(request: httpx.Request) -> httpx.Response:
        now_s = asyncio.get_running_loop().time()
        if now_s < second:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(503 if now_s < second + 1 else 200, text="no decode worker")

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


@pytest.mark.looptime
async def test_returns_as_soon_as_the_router_is_ready() -> None:
    await wait_ready(serving_from(5), "http://baton.test", clock=LoopClock(), limit_s=60)
    assert 6 <= asyncio.get_running_loop().time() < 6.5


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("second", "last"), [(100, "ConnectError"), (9.5, "status 503: no decode worker")]
)
async def test_gives_up_at_the_limit_with_the_last_answer(second: float, last: str) -> None:
    with pytest.raises(DeadlineExceeded, match=f"not ready after 10 s .last: {last}"):
        await wait_ready(serving_from(second), "http://baton.test", clock=LoopClock(), limit_s=10)
