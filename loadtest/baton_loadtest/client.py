"""Sends planned requests over HTTP and writes down when each chunk came.

Knows the streaming completions endpoint; keeps no text. A request that fails fails the run: a
number measured over half of the requests would be a lie.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
from baton.common.clock import Clock
from baton.common.errors import DeadlineExceeded, Unavailable

from baton_loadtest.stats import Observation
from baton_loadtest.workload import PlannedRequest

CONNECT_TIMEOUT_S = 10.0


class LoadClient:
    """Drives one model of one server.

    `http` has the server as its base URL and no connection limit.
    """

    def __init__(self, http: httpx.AsyncClient, model: str, *, clock: Clock) -> None:
        self._http = http
        self._model = model
        self._clock = clock

    async def run(
        self, requests: Sequence[PlannedRequest], *, limit_s: float
    ) -> tuple[Observation, ...]:
        """Send each request at its time, all concurrently. Raises Unavailable, DeadlineExceeded."""
        try:
            async with asyncio.timeout(limit_s):
                return await self._all(requests)
        except TimeoutError:
            raise DeadlineExceeded(
                f"{len(requests)} requests did not finish within {limit_s:.0f} s"
            ) from None

    async def _all(self, requests: Sequence[PlannedRequest]) -> tuple[Observation, ...]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._observe(request)) for request in requests]
        except* (Unavailable, httpx.TransportError) as failures:
            raise Unavailable(described(failures)) from failures
        return tuple(task.result() for task in tasks)

    async def _observe(self, request: PlannedRequest) -> Observation:
        await asyncio.sleep(request.start_s)
        sent_s = self._clock.monotonic_s()
        times_s: list[float] = []
        usage: dict[str, Any] = {}
        async for event in self._events(request):
            if any(choice["text"] for choice in event["choices"]):
                times_s.append(self._clock.monotonic_s())
            usage = event.get("usage") or usage
        return observation(request, sent_s, times_s, usage)

    async def _events(self, request: PlannedRequest) -> AsyncIterator[dict[str, Any]]:
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)  # run() limits the whole
        body = request_body(request, self._model)
        async with self._http.stream(
            "POST", "/v1/completions", json=body, timeout=timeout
        ) as response:
            if response.is_error:
                await response.aread()
                raise Unavailable(f"status {response.status_code}: {response.text[:500]}")
            async for line in response.aiter_lines():
                if line.startswith("data:") and not line.endswith("[DONE]"):
                    event = json.loads(line.removeprefix("data:"))
                    if "error" in event:
                        raise Unavailable(str(event["error"].get("message")))
                    yield event


def request_body(request: PlannedRequest, model: str) -> dict[str, object]:
    """A greedy completion of exactly `output_tokens` tokens, with usage in the last event."""
    return {
        "model": model,
        "prompt": list(request.prompt),
        "max_tokens": request.output_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def observation(
    request: PlannedRequest, sent_s: float, times_s: Sequence[float], usage: dict[str, Any]
) -> Observation:
    """Raises Unavailable when the answer is not the one that was ordered."""
    tokens = usage.get("completion_tokens")
    if tokens != request.output_tokens:
        raise Unavailable(f"ordered {request.output_tokens} output tokens, usage says {tokens}")
    if len(times_s) < 2:
        raise Unavailable(f"{tokens} tokens came in {len(times_s)} chunks: not a stream")
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens", 0) if isinstance(details, dict) else 0
    return Observation(sent_s, tuple(times_s), len(request.prompt), request.output_tokens, cached)


def described(failures: BaseExceptionGroup[Exception]) -> str:
    """The first failure of a run, in words; the others are its consequences more often than not."""
    first: BaseException = failures
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first) or type(first).__name__
