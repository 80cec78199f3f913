"""Asks routers for their signals, all at once, each for two seconds at most. Knows HTTP and nothing
of what the signals mean."""

import asyncio
from collections.abc import Sequence

import httpx
import msgspec
from baton.common.clock import Clock
from baton.common.logs import get_log
from baton.common.signals import RouterSignals, decode_signals

from baton_operator.names import METRICS_PORT
from baton_operator.signals import Heard

ASK_TIMEOUT_S = 2.0
"""A router answers in milliseconds from what it knows; the next tick comes in five seconds."""

BODY_BYTES_MAX = 4 * 1024 * 1024
"""A worker takes some 400 bytes: ten thousand workers."""

ASKED_AT_ONCE_MAX = 64
"""Open connections; routers beyond them wait their turn, within the same two seconds each."""

_log = get_log(__name__)


class SignalCollector:
    """Collects from routers by their pods' addresses."""

    def __init__(self, client: httpx.AsyncClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._turns = asyncio.Semaphore(ASKED_AT_ONCE_MAX)

    async def collect(self, hosts: Sequence[str]) -> tuple[Heard, ...]:
        """What the routers on these hosts say; one that does not answer in time is left out."""
        answers = await asyncio.gather(*(self._ask(host) for host in hosts))
        return tuple(answer for answer in answers if answer is not None)

    async def _ask(self, host: str) -> Heard | None:
        async with self._turns:
            asked_s = self._clock.monotonic_s()
            try:
                async with asyncio.timeout(ASK_TIMEOUT_S):
                    return Heard(await self._fetch(host), asked_s)
            except (httpx.HTTPError, msgspec.MsgspecError, TimeoutError, ValueError) as error:
                _log.warning("router gives no signals", host=host, error=repr(error))
                return None

    async def _fetch(self, host: str) -> RouterSignals:
        bracketed = f"[{host}]" if ":" in host else host
        url = f"http://{bracketed}:{METRICS_PORT}/signals"
        async with self._client.stream("GET", url) as response:
            response.raise_for_status()
            body = b""
            async for part in response.aiter_bytes():
                body += part
                if len(body) > BODY_BYTES_MAX:
                    raise ValueError(f"more than {BODY_BYTES_MAX} bytes of signals")
        return decode_signals(body)


def new_client() -> httpx.AsyncClient:
    """Without the environment's proxies: pods are reached directly."""
    limits = httpx.Limits(max_connections=ASKED_AT_ONCE_MAX)
    return httpx.AsyncClient(timeout=ASK_TIMEOUT_S, limits=limits, trust_env=False)
