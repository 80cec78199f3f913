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


WORKERS = {"prefill": 1, "decode": 1}


def serving_from(second: float) -> httpx.AsyncClient:
    """No server until `second`; then no worker, decode alone, and all of them, a second each."""

    def answer(request: httpx.Request) -> httpx.Response:
        up_s = asyncio.get_running_loop().time() - second
        if up_s < 0:
            raise httpx.ConnectError("refused", request=request)
        workers = {"prefill": int(up_s >= 2), "decode": int(up_s >= 1)}
        return httpx.Response(200 if workers["decode"] else 503, json={"workers": workers})

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


@pytest.mark.looptime
async def test_returns_as_soon_as_every_worker_is_ready() -> None:
    await wait_ready(
        serving_from(5), "http://baton.test", workers=WORKERS, clock=LoopClock(), limit_s=60
    )
    assert 7 <= asyncio.get_running_loop().time() < 7.5


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("second", "last"),
    [(100, "ConnectError"), (9.5, "status 503: "), (8.5, 'status 200: .*"prefill":0')],
)
async def test_gives_up_at_the_limit_with_the_last_answer(second: float, last: str) -> None:
    with pytest.raises(DeadlineExceeded, match=f"not ready after 10 s .last: {last}"):
        await wait_ready(
            serving_from(second),
            "http://baton.test",
            workers=WORKERS,
            clock=LoopClock(),
            limit_s=10,
        )


@pytest.mark.looptime
async def test_a_worker_is_ready_whoever_it_counts() -> None:
    await wait_ready(
        serving_from(5), "http://baton.test", workers=None, clock=LoopClock(), limit_s=60
    )
    assert 6 <= asyncio.get_running_loop().time() < 6.5
