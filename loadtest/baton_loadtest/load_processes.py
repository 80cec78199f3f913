"""Load from several processes at once: one alone reads no faster than a GPU answers, and would be
measured instead of the server.

Knows how requests are shared out; what is sent and seen is `client`'s.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context
from typing import Self

import httpx
from baton.common.clock import SystemClock

from baton_loadtest.client import LoadClient
from baton_loadtest.stats import Observation
from baton_loadtest.workload import PlannedRequest

PROCESSES = 4

START_DELAY_S = 0.5
"""All begin at the same moment, once each has made its client."""


class LoadProcesses:
    """Drives one model of one server. Times are of the machine's one monotonic clock."""

    def __init__(self, url: str, model: str) -> None:
        self._url, self._model = url, model
        # a pool each: a busy process must not keep a share waiting
        self._pools = [ProcessPoolExecutor(1, get_context("spawn")) for _ in range(PROCESSES)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for pool in self._pools:
            # after an error a share may wait for a server that is stopped only then
            pool.shutdown(wait=kind is None)

    async def run(
        self, requests: Sequence[PlannedRequest], *, limit_s: float
    ) -> tuple[Observation, ...]:
        """Send all, concurrently, however they are shared out. Raises Unavailable,
        DeadlineExceeded."""
        loop = asyncio.get_running_loop()
        start_s = SystemClock().monotonic_s() + START_DELAY_S
        observed = await asyncio.gather(
            *(
                loop.run_in_executor(pool, _drive, self._url, self._model, share, start_s, limit_s)
                for part, pool in enumerate(self._pools)
                if (share := requests[part::PROCESSES])
            )
        )
        return tuple(chain.from_iterable(observed))


def _drive(
    url: str, model: str, requests: Sequence[PlannedRequest], start_s: float, limit_s: float
) -> tuple[Observation, ...]:
    """In a process of the pool."""

    async def drive() -> tuple[Observation, ...]:
        clock, limits = SystemClock(), httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, limits=limits, trust_env=False) as http:
            await asyncio.sleep(max(0.0, start_s - clock.monotonic_s()))
            return await LoadClient(http, model, clock=clock).run(requests, limit_s=limit_s)

    return asyncio.run(drive())
