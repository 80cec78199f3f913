"""Server-sent events over ASGI: when the status is sent, and what idle streams and errors say."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest
from baton.common.errors import Overloaded
from baton.router.openai.chunks import error_event
from baton.router.openai.sse import KEEP_ALIVE, EventStream
from openai._streaming import SSEDecoder


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


def test_clients_see_no_event_in_what_keeps_a_stream_alive() -> None:
    body = KEEP_ALIVE + b"data: 1\n\n" + KEEP_ALIVE + b"data: 2\n\n"
    events = SSEDecoder().iter_bytes(iter([body]))
    assert [event.data for event in events if event.data] == ["1", "2"]
    # clients that trim every piece they read, as vLLM's benchmark does
    assert KEEP_ALIVE.strip() == b""


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


async def test_only_the_start_and_the_end_pass_by_what_is_around_a_request() -> None:
    async def events(_: Client) -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        yield b"data: 2\n\n"

    around, server = Client(), Client()
    stream = EventStream(events(server), error_event)
    scope = {"type": "http", "state": {"send": server.send}}
    await stream(scope, around.receive, around.send)  # type: ignore[arg-type]
    assert [message["type"] for message in around.messages] == [
        *("http.response.start", "http.response.body")
    ]
    assert around.complete
    assert server.body == b"data: 1\n\ndata: 2\n\n"


async def test_an_event_waits_until_the_start_of_its_answer_is_sent() -> None:
    """Also where a keep-alive has begun it and the connection takes nothing."""
    taking = asyncio.Event()

    class Stuck(Client):
        async def send(self, message: dict[str, object]) -> None:
            self.got.set()
            await taking.wait()
            self.messages.append(message)

    async def events() -> AsyncGenerator[bytes, None]:
        await client.got.wait()
        asyncio.get_running_loop().call_soon(taking.set)
        yield b"data: 1\n\n"

    client = Stuck()
    stream = EventStream(events(), error_event, keep_alive_s=0.001)
    await stream({"type": "http"}, client.receive, client.send)  # type: ignore[arg-type]
    assert client.status == 200
    assert sorted([bytes(m["body"]) for m in client.messages[1:]]) == [  # type: ignore[call-overload]
        *(b"", KEEP_ALIVE, b"data: 1\n\n")
    ]


async def test_a_bug_in_the_events_is_the_callers_to_report() -> None:
    async def events(_: Client) -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await streamed(events)
