"""The steady load notices what went wrong: a load test that sees nothing proves nothing."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import uvicorn
from baton.common.clock import SystemClock
from baton_loadtest.steady import Question, SteadyLoad
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from support.stack import free_port


class Scripted:
    """A chat endpoint that answers "one two three", except for what it is told to do."""

    def __init__(self) -> None:
        self.misdeeds: list[str] = []
        self.asked = 0
        self.asked_enough = asyncio.Event()
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self._chat)

    async def _chat(self, request: Request) -> Response:
        self.asked += 1
        if self.asked > 6:
            self.asked_enough.set()
        misdeed = self.misdeeds.pop() if self.misdeeds else ""
        if misdeed == "refuse":
            return JSONResponse({"error": {"message": "no"}}, 503)
        return StreamingResponse(self._stream(misdeed), media_type="text/event-stream")

    async def _stream(self, misdeed: str) -> AsyncIterator[bytes]:
        words = ["one", " two", " tree" if misdeed == "change" else " three"]
        for word in words:
            yield event({"content": word}, None)
        if misdeed == "truncate":
            return
        yield event({}, "stop")
        yield b"data: [DONE]\n\n"


def event(delta: dict[str, str], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    return b"data: " + msgspec.json.encode({**chunk, "choices": [choice]}) + b"\n\n"


class Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    port = free_port()
    server = Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off"))
    running = asyncio.create_task(server.serve())
    await asyncio.wait_for(server.listening.wait(), 20)
    yield f"http://127.0.0.1:{port}/v1"
    server.should_exit = True
    await running


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.mark.parametrize(
    ("misdeed", "failures", "changed"),
    [("", 0, 0), ("refuse", 1, 0), ("truncate", 1, 0), ("change", 0, 1)],
)
async def test_each_misdeed_is_noticed(
    scripted: Scripted, misdeed: str, failures: int, changed: int
) -> None:
    async with serving(scripted.app) as url:
        load = SteadyLoad(url, "m", [Question("count", 8)], clock=SystemClock())
        await load.learn()
        scripted.misdeeds = [misdeed]
        async with load.running(streams=2):
            await asyncio.wait_for(scripted.asked_enough.wait(), 20)
        await load.aclose()
    assert (len(load.failures), len(load.changed)) == (failures, changed)
    assert len(load.answers) == scripted.asked - 1  # nothing asked is forgotten


async def test_a_service_that_fails_while_it_is_learned_is_no_reference(
    scripted: Scripted,
) -> None:
    scripted.misdeeds = ["truncate"]
    async with serving(scripted.app) as url:
        load = SteadyLoad(url, "m", [Question("count", 8)], clock=SystemClock())
        with pytest.raises(Exception, match="without a finish reason"):
            await load.learn()
        await load.aclose()
