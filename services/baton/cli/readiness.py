"""Waits, with a limit, until a process can serve; of a router, until it hears every worker.

Knows `GET /ready`, nothing of workers.
"""

import asyncio
from collections.abc import Mapping

import httpx

from baton.common.clock import Clock
from baton.common.errors import DeadlineExceeded

READY_LIMIT_S = 600.0
"""The model is on disk by then; loading and converting an 8B one on a slow disk takes minutes."""

POLL_INTERVAL_S = 0.1
POLL_TIMEOUT_S = 2.0


async def wait_ready(
    client: httpx.AsyncClient,
    url: str,
    *,
    workers: Mapping[str, int] | None,
    clock: Clock,
    limit_s: float = READY_LIMIT_S,
) -> None:
    """Returns once `url`/ready answers 200 and counts the `workers` of each role as ready. None:
    a worker's own port, which counts nobody.

    Raises DeadlineExceeded after `limit_s` with the last answer.
    """
    give_up_s = clock.monotonic_s() + limit_s
    last = "no answer"
    while clock.monotonic_s() < give_up_s:
        try:
            answer = await client.get(f"{url}/ready", timeout=POLL_TIMEOUT_S)
        except httpx.TransportError as error:
            last = type(error).__name__
        else:
            if answer.status_code == httpx.codes.OK and workers in (None, ready_workers(answer)):
                return
            last = f"status {answer.status_code}: {answer.text[:200]}"
        await asyncio.sleep(POLL_INTERVAL_S)
    raise DeadlineExceeded(f"not ready after {limit_s:.0f} s (last: {last})")


def ready_workers(answer: httpx.Response) -> object:
    """Workers per role as the router counts them; None for an answer that is not its."""
    try:
        return answer.json()["workers"]
    except (ValueError, KeyError, TypeError):
        return None
