"""Whatever the chunking, a hand-off arrives complete; whatever is done to a frame, it is
refused."""

from typing import NamedTuple

import pytest
from baton.common.errors import TransferCorrupt
from baton.handoff.codec import blocks_frame, claim_from_wire
from baton.handoff.layout import Extent
from baton.handoff.session import (
    ReceiverSession,
    ReceiverState,
    SenderSession,
    SenderState,
    Span,
)
from baton.rpc.v1 import prefill_pb2
from hypothesis import given
from hypothesis import strategies as st

BLOCK_BYTES = 16


class Case(NamedTuple):
    extent: Extent
    skip_blocks: int
    blocks_max: int
    progress: list[int]  # computed tokens, with fall-backs


@st.composite
def cases(draw: st.DrawFn) -> Case:
    extent = Extent(draw(st.integers(1, 100)), draw(st.integers(1, 9)))
    skip_blocks = draw(st.integers(0, extent.full_block_count))
    progress = draw(st.lists(st.integers(0, extent.tokens), max_size=12))
    return Case(extent, skip_blocks, draw(st.integers(1, 5)), progress)


def block_bytes(index: int) -> bytes:
    return index.to_bytes(4, "little") * (BLOCK_BYTES // 4)


def frame(span: Span) -> prefill_pb2.KvBlocks:
    payload = b"".join(block_bytes(index) for index in range(span.first_block, span.end_block))
    return blocks_frame(span, payload).kv


def sent_frames(case: Case) -> list[prefill_pb2.KvBlocks]:
    """All frames of a hand-off whose engine reports `case.progress`, then the first token."""
    session = SenderSession(case.extent, skip_blocks=case.skip_blocks, blocks_max=case.blocks_max)
    frames = []

    def flush() -> None:
        while (span := session.next_span()) is not None:
            session.span_sent(span)
            session.audit()
            frames.append(frame(span))

    for tokens in case.progress:
        asked = session.next_span()
        session.computed(tokens)
        if asked is not None and session.may_send(asked):  # more came while it was being read
            session.span_sent(asked)
            frames.append(frame(asked))
        if tokens % 2:
            flush()
    session.drawn()
    flush()
    assert session.state is SenderState.TOKEN_DUE
    session.token_sent()
    return frames


def receiver(case: Case) -> ReceiverSession:
    return ReceiverSession(case.extent, held_blocks=case.skip_blocks, block_bytes=BLOCK_BYTES)


def receive(session: ReceiverSession, frames: list[prefill_pb2.KvBlocks]) -> list[bytes]:
    """Blocks as written, in order. Raises TransferCorrupt like the driver."""
    written = []
    for wire in frames:
        claimed = claim_from_wire(wire, wire.payload)
        session.check(claimed)
        session.blocks(claimed)
        session.audit()
        written += [
            wire.payload[start : start + BLOCK_BYTES]
            for start in range(0, len(wire.payload), BLOCK_BYTES)
        ]
    return written


def receive_all(
    session: ReceiverSession, frames: list[prefill_pb2.KvBlocks], position: int
) -> list[bytes]:
    """The frames, then the first token for `position`."""
    written = receive(session, frames)
    session.token(position)
    return written


@given(cases())
def test_every_chunking_arrives_complete(case: Case) -> None:
    session = receiver(case)
    written = receive_all(session, sent_frames(case), case.extent.tokens)
    assert session.state is ReceiverState.DONE
    wanted = range(case.skip_blocks, case.extent.block_count)
    assert written == [block_bytes(index) for index in wanted]


@given(cases(), st.data())
def test_a_dropped_duplicated_reordered_or_flipped_frame_is_refused(
    case: Case, data: st.DataObject
) -> None:
    frames = sent_frames(case)
    if not frames:
        return  # everything was skipped: nothing to harm
    index = data.draw(st.integers(0, len(frames) - 1))
    harm = data.draw(st.sampled_from(["drop", "duplicate", "swap", "flip", "cut"]))
    match harm:
        case "drop":
            del frames[index]
        case "duplicate":
            frames.insert(index, frames[index])
        case "swap" if len(frames) > 1:
            other = (index + 1) % len(frames)
            frames[index], frames[other] = frames[other], frames[index]
        case "swap":
            return  # a single frame has no order
        case "flip":
            payload = bytearray(frames[index].payload)
            payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
            frames[index].payload = bytes(payload)
        case "cut":
            frames[index].payload = frames[index].payload[:-1]
    session = receiver(case)
    with pytest.raises(TransferCorrupt):
        receive_all(session, frames, case.extent.tokens)
    assert session.state is not ReceiverState.DONE
