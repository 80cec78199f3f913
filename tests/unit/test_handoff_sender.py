"""The sender between an engine that goes on and a wire that takes its time."""

import asyncio
import zlib
from collections.abc import Callable, Sequence

import pytest
from baton.common.errors import Cancelled, EngineFailure
from baton.engine.messages import Event, Progress, Tokens
from baton.engine.params import FinishReason, TokenSample
from baton.handoff.layout import Extent
from baton.handoff.sender import Sender
from baton.handoff.session import SenderSession
from baton.rpc.v1 import prefill_pb2

EXTENT = Extent(tokens=10, block_size=4)
TABLE = (5, 6, 7)


class Script:
    """ExportEvents and KvStore: a block's bytes are its number; events come when a test says so."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._came = asyncio.Event()
        self.while_reading: list[Callable[[], None]] = []  # what the engine does during a read
        self.reads: list[tuple[int, ...]] = []

    def tell(self, *events: Event) -> None:
        self._events.extend(events)
        self._came.set()

    def take(self) -> Sequence[Event]:
        events, self._events = self._events, []
        self._came.clear()
        return events

    async def wait(self) -> None:
        await self._came.wait()

    def read_blocks(self, block_ids: Sequence[int]) -> bytes:
        self.reads.append(tuple(block_ids))
        if self.while_reading:
            # the engine's thread reports through the loop, before it touches the blocks again
            asyncio.get_running_loop().call_soon(self.while_reading.pop(0))
        return bytes(block_ids)

    def touch(self) -> bool:
        return False

    def write_blocks(self, block_ids: Sequence[int], payload: bytes) -> None:
        raise AssertionError("a sender writes nothing")


def progress(tokens: int, table: tuple[int, ...] = TABLE) -> Progress:
    return Progress("r", tokens, table)


def drawn() -> Tokens:
    return Tokens("r", (TokenSample(42),), cached_tokens=4)


def sender(script: Script, *, blocks_max: int = 8) -> Sender:
    session = SenderSession(EXTENT, skip_blocks=0, blocks_max=blocks_max)
    return Sender(session, script, script, tokens=EXTENT.tokens)


async def all_frames(sending: Sender) -> list[prefill_pb2.PrefillFrame]:
    async with asyncio.timeout(5):
        return [frame async for frame in sending.frames()]


def spans(frames: Sequence[prefill_pb2.PrefillFrame]) -> list[tuple[int, bytes]]:
    return [(f.kv.first_block, f.kv.payload) for f in frames if f.HasField("kv")]


async def test_blocks_then_the_token() -> None:
    script = Script()
    script.tell(progress(8), progress(10), drawn())
    sending = sender(script)
    assert not sending.computed
    frames = await all_frames(sending)
    assert spans(frames) == [(0, bytes(TABLE))]
    assert frames[0].kv.crc32 == zlib.crc32(bytes(TABLE))
    last = frames[-1].first_token
    assert (last.token.token_id, last.position, last.cached_tokens) == (42, 10, 4)
    assert sending.computed


async def test_a_block_read_while_more_is_computed_goes_once() -> None:
    script = Script()
    script.tell(progress(4))
    script.while_reading = [lambda: script.tell(progress(10), drawn())]
    assert spans(await all_frames(sender(script))) == [(0, bytes([5])), (1, bytes([6, 7]))]


async def test_blocks_taken_away_while_they_are_read_are_not_sent() -> None:
    script = Script()
    script.tell(progress(8))
    moved = (1, 2, 3)
    script.while_reading = [lambda: script.tell(progress(0), progress(10, moved), drawn())]
    assert spans(await all_frames(sender(script))) == [(0, bytes(moved))]
    assert script.reads == [(5, 6), moved]


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (Tokens("r", finish=FinishReason.ERROR, error="NaN"), EngineFailure),
        (Tokens("r", finish=FinishReason.CANCELLED), Cancelled),
    ],
)
async def test_a_request_that_fails_while_its_blocks_are_read_sends_nothing_of_them(
    event: Tokens, error: type[Exception]
) -> None:
    script = Script()
    script.tell(progress(8))
    script.while_reading = [lambda: script.tell(event)]
    sending, frames = sender(script), []

    async def collect() -> None:
        async for frame in sending.frames():
            frames.append(frame)  # noqa: PERF401  # kept although the generator raises

    with pytest.raises(error):
        await asyncio.wait_for(collect(), 5)
    assert frames == []
    assert not sending.computed
