"""Server-sent events over ASGI: the status waits for the first event, empty lines keep idle streams
open, an error after the first byte becomes an event.

Knows bytes and errors; knows no chunks' shapes.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from fastapi import Response
from starlette.types import Receive, Scope, Send

from baton.common.errors import BatonError
from baton.router.middleware import straight_send
from baton.router.openai.errors import error_response

KEEP_ALIVE_S = 10.0
"""Proxies cut connections that are silent for 30 to 60 s; a long prefill is, and so is the wait for
a worker that is being started. Until then an error still has its own status."""

KEEP_ALIVE = b"\n\n"
"""Empty lines end an event of nothing, which is none. A comment would be as good by the standard,
but clients that trim what they read (`vllm bench serve`) join it to the event behind it and lose
both."""

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
        stream = _Stream(send, straight_send(scope, send))
        # A task of its own: each event wakes it alone, not all that stands around a request.
        pump = asyncio.create_task(stream.pump(self._events), name="events")
        try:
            while not (await asyncio.wait({pump}, timeout=self._keep_alive_s))[0]:
                await stream.beat()
        finally:
            pump.cancel()
            await asyncio.wait({pump})
        ending = b""
        try:
            pump.result()
        except BatonError as error:
            if not stream.started:
                await error_response(error)(scope, receive, send)
                return
            ending = self._render_error(error)
        await stream.end(ending)


class _Stream:
    """The response under way. Two may write to it, each of them whole events."""

    def __init__(self, send: Send, send_more: Send) -> None:
        """`send` takes the first and the last message, `send_more` all between them."""
        self._send = send
        self._send_more = send_more
        self._starting = asyncio.Lock()
        self._open = False  # bodies may follow
        self._idle = True
        self.started = False

    async def pump(self, events: AsyncGenerator[bytes, None]) -> None:
        async with aclosing(events):
            async for event in events:
                await self._write(event)

    async def beat(self) -> None:
        """Empty lines, if nothing was written since the last beat."""
        if self._idle:
            await self._write(KEEP_ALIVE)
        self._idle = True

    async def end(self, data: bytes) -> None:
        await self._start()
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def _write(self, data: bytes) -> None:
        self._idle = False
        if not self._open:
            await self._start()
        await self._send_more({"type": "http.response.body", "body": data, "more_body": True})

    async def _start(self) -> None:
        async with self._starting:
            if not self.started:
                self.started = True
                await self._send(
                    {"type": "http.response.start", "status": 200, "headers": _HEADERS}
                )
                self._open = True
