"""Server-sent events over ASGI: the status waits for the first event, comments keep idle streams
open, an error after the first byte becomes an event.

Knows bytes and errors; knows no chunks' shapes.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from fastapi import Response
from starlette.types import Receive, Scope, Send

from baton.common.errors import BatonError
from baton.router.openai.errors import error_response

KEEP_ALIVE_S = 10.0
"""Proxies cut connections that are silent for 30 to 60 s; a long prefill is, and so is the wait for
a worker that is being started. Until then an error still has its own status."""

KEEP_ALIVE = b": keep-alive\n\n"

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]


class EventStream(Response):
    """Sends events as they come. The generator is closed however the stream ends."""

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        render_error: Callable[[BatonError], bytes],
        *,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        super().__init__()
        self._events = events
        self._render_error = render_error
        self._keep_alive_s = keep_alive_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = _Stream(send)
        heart = asyncio.create_task(stream.beat(self._keep_alive_s), name="keep-alive")
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    await stream.write(event)
            ending = b""
        except BatonError as error:
            if not stream.started:
                # Before the first await: the heart must not start the stream meanwhile.
                heart.cancel()
                await error_response(error)(scope, receive, send)
                return
            ending = self._render_error(error)
        finally:
            heart.cancel()
        await asyncio.wait({heart})
        await stream.end(ending)


class _Stream:
    """The response under way."""

    def __init__(self, send: Send) -> None:
        self._send: Callable[[dict[str, object]], Awaitable[None]] = send
        self._lock = asyncio.Lock()
        self._idle = True
        self.started = False

    async def write(self, data: bytes) -> None:
        self._idle = False
        async with self._lock:
            await self._start()
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes) -> None:
        await self._start()
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def beat(self, interval_s: float) -> None:
        """A comment whenever nothing was written for one to two intervals."""
        while True:
            await asyncio.sleep(interval_s)
            if self._idle:
                await self.write(KEEP_ALIVE)
            self._idle = True

    async def _start(self) -> None:
        if not self.started:
            self.started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
