"""Server-sent events over ASGI: when the status is sent, and what idle streams and errors say."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from baton.common.errors import Overloaded
from baton.router.openai.chunks import error_event
from baton.router.openai.sse import KEEP_ALIVE, EventStream


class Client:
    """An ASGI client that keeps what it is sent."""

    def __init__(self) -> None:
        self.messages: list[dict[str, object]] = []
        self.got = asyncio.Event()

    async def send(self, message: dict[str, object]) -> None:
        self.messages.append(message)
        self.got.set()

    async def receive(self) -> dict[str, object]:
        raise AssertionError("the stream does not read")

    @property
    def status(self) -> object:
        return self.messages[0]["status"]

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])  # type: ignore[call-overload,no-any-return]

    @property
    def body(self) -> bytes:
        return b"".join(bytes(m.get("body", b"")) for m in self.messages)  # type: ignore[call-overload]

    @property
    def complete(self) -> bool:
        return not self.messages[-1].get("more_body", False)


async def streamed(
    events: Callable[[Client], AsyncGenerator[bytes, None]], *, keep_alive_s: float = 60.0
) -> Client:
    client = Client()
    stream = EventStream(events(client), error_event, keep_alive_s=keep_alive_s)
    await stream({"type": "http"}, client.receive, client.send)  # type: ignore[arg-type]
    return client


async def test_events_go_out_as_they_come() -> None:
    async def events(_: Client) -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        yield b"data: 2\n\n"

    client = await streamed(events)
    assert client.status == 200
    assert client.body == b"data: 1\n\ndata: 2\n\n"
    assert client.complete
    assert len(client.messages) == 4  # start, two events, end


async def test_an_error_before_the_first_event_has_its_own_status() -> None:
    async def events(_: Client) -> AsyncGenerator[bytes, None]:
        raise Overloaded("full")
        yield b""

    client = await streamed(events)
    assert client.status == 429
    assert b'"code":"overloaded"' in client.body


async def test_an_error_after_it_is_an_event() -> None:
    async def events(_: Client) -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        raise Overloaded("full")

    client = await streamed(events)
    assert client.status == 200
    assert client.body.endswith(b"\n\ndata: [DONE]\n\n")
    assert b'"code":"overloaded"' in client.body
    assert client.complete


async def test_an_idle_stream_is_kept_alive_and_errors_then_are_events() -> None:
    async def events(client: Client) -> AsyncGenerator[bytes, None]:
        await client.got.wait()  # until the keep-alive has started the stream
        raise Overloaded("full")
        yield b""

    client = await streamed(events, keep_alive_s=0.001)
    assert client.status == 200
    assert client.body.startswith(KEEP_ALIVE)
    assert b'"code":"overloaded"' in client.body


async def test_the_events_are_closed_when_the_client_goes() -> None:
    closed = asyncio.Event()

    async def events(_: Client) -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: 1\n\n"
            await asyncio.Event().wait()
        finally:
            closed.set()

    client = Client()
    stream = EventStream(events(client), error_event)
    serving = asyncio.create_task(
        stream({"type": "http"}, client.receive, client.send)  # type: ignore[arg-type]
    )
    await client.got.wait()
    serving.cancel()
    await asyncio.wait({serving})
    assert closed.is_set()


async def test_proxies_are_told_to_pass_events_on_as_they_come() -> None:
    async def events(_: Client) -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"

    client = await streamed(events)
    assert client.headers[b"x-accel-buffering"] == b"no"  # nginx buffers without it
    assert client.headers[b"cache-control"] == b"no-cache"
