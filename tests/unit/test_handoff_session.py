"""The hand-off's two state machines, walked state by state and event by event."""

import copy
from collections.abc import Callable

import pytest
from baton.common.errors import IllegalTransition, InvalidRequest, TransferCorrupt
from baton.handoff.layout import Extent
from baton.handoff.session import (
    FRAME_PAYLOAD_BYTES_MAX,
    RECEIVER_TRANSITIONS,
    SENDER_TRANSITIONS,
    BlocksClaim,
    ReceiverEvent,
    ReceiverSession,
    ReceiverState,
    SenderEvent,
    SenderSession,
    SenderState,
    Span,
    span_blocks_max,
)

EXTENT = Extent(tokens=10, block_size=4)  # two full blocks and one with two tokens
BLOCK_BYTES = 100


def sender(*, skip_blocks: int = 0, blocks_max: int = 8) -> SenderSession:
    return SenderSession(EXTENT, skip_blocks=skip_blocks, blocks_max=blocks_max)


def receiver(*, held_blocks: int = 0) -> ReceiverSession:
    return ReceiverSession(EXTENT, held_blocks=held_blocks, block_bytes=BLOCK_BYTES)


def claim(first_block: int, block_count: int, *, checksum_ok: bool = True) -> BlocksClaim:
    return BlocksClaim(first_block, block_count, block_count * BLOCK_BYTES, checksum_ok)


def everything(session: object) -> dict[str, object]:
    return {name: copy.copy(value) for name, value in vars(session).items()}


def sender_in(state: SenderState) -> SenderSession:
    session = sender()
    match state:
        case SenderState.COMPUTING:
            session.computed(5)  # one full block may go
        case SenderState.FLUSHING:
            session.drawn()
        case SenderState.TOKEN_DUE | SenderState.DONE:
            session.drawn()
            session.span_sent(Span(0, 3))
            if state is SenderState.DONE:
                session.token_sent()
        case SenderState.FAILED:
            session.fail()
    assert session.state is state
    return session


SENDER_ACTS: dict[SenderEvent, Callable[[SenderSession], None]] = {
    SenderEvent.COMPUTED: lambda session: session.computed(9),
    SenderEvent.DRAWN: lambda session: session.drawn(),
    SenderEvent.SPAN_SENT: lambda session: session.span_sent(session.next_span() or Span(0, 1)),
    SenderEvent.TOKEN_SENT: lambda session: session.token_sent(),
    SenderEvent.FAIL: lambda session: session.fail(),
}
AFTER_SETTLING = {SenderState.FLUSHING: SenderState.TOKEN_DUE}  # a span that was the last


@pytest.mark.parametrize("event", SenderEvent)
@pytest.mark.parametrize("state", SenderState)
def test_sender_takes_what_the_table_says_and_nothing_else(
    state: SenderState, event: SenderEvent
) -> None:
    session = sender_in(state)
    before = everything(session)
    target = SENDER_TRANSITIONS.get((state, event))
    if target is None:
        with pytest.raises(IllegalTransition, match=state.value):
            SENDER_ACTS[event](session)
        assert everything(session) == before
    else:
        SENDER_ACTS[event](session)
        assert session.state in (target, AFTER_SETTLING.get(target))
    session.audit()


def receiver_in(state: ReceiverState) -> ReceiverSession:
    session = receiver()
    match state:
        case ReceiverState.ALL_HELD | ReceiverState.DONE:
            session.blocks(claim(0, 3))
            if state is ReceiverState.DONE:
                session.token(EXTENT.tokens)
        case ReceiverState.FAILED:
            session.fail()
    assert session.state is state
    return session


RECEIVER_ACTS: dict[ReceiverEvent, Callable[[ReceiverSession], None]] = {
    ReceiverEvent.BLOCKS: lambda session: session.blocks(claim(0, 1)),
    ReceiverEvent.TOKEN: lambda session: session.token(EXTENT.tokens),
    ReceiverEvent.FAIL: lambda session: session.fail(),
}


@pytest.mark.parametrize("event", ReceiverEvent)
@pytest.mark.parametrize("state", ReceiverState)
def test_receiver_takes_what_the_table_says_and_nothing_else(
    state: ReceiverState, event: ReceiverEvent
) -> None:
    session = receiver_in(state)
    before = everything(session)
    target = RECEIVER_TRANSITIONS.get((state, event))
    if target is None:  # frames are the peer's fault, giving up twice is ours
        kind = IllegalTransition if event is ReceiverEvent.FAIL else TransferCorrupt
        with pytest.raises(kind, match=state.value):
            RECEIVER_ACTS[event](session)
        assert everything(session) == before
    else:
        RECEIVER_ACTS[event](session)
        assert session.state is target
    session.audit()


def test_full_blocks_go_as_they_are_computed_and_the_partial_one_at_the_end() -> None:
    session = sender()
    spans = []
    for tokens in (3, 5, 9, 10):
        session.computed(tokens)
        span = session.next_span()
        spans.append(span)
        if span is not None:
            session.span_sent(span)
    assert spans == [None, Span(0, 1), Span(1, 1), None]
    session.drawn()
    assert session.next_span() == Span(2, 1)


def test_spans_have_a_largest_size() -> None:
    session = sender(blocks_max=2)
    session.drawn()
    assert session.next_span() == Span(0, 2)
    session.span_sent(Span(0, 2))
    assert session.next_span() == Span(2, 1)


@pytest.mark.parametrize(
    ("block_bytes", "blocks"),
    [(1, FRAME_PAYLOAD_BYTES_MAX), (FRAME_PAYLOAD_BYTES_MAX, 1), (FRAME_PAYLOAD_BYTES_MAX + 1, 1)],
)
def test_a_span_fits_a_frame_but_has_at_least_one_block(block_bytes: int, blocks: int) -> None:
    assert span_blocks_max(block_bytes) == blocks


def test_skipped_blocks_are_not_sent() -> None:
    session = sender(skip_blocks=1)
    session.computed(4)
    assert session.next_span() is None
    session.drawn()
    assert session.next_span() == Span(1, 2)


def test_a_fully_skipped_sequence_sends_its_token_only() -> None:
    session = SenderSession(Extent(8, 4), skip_blocks=2, blocks_max=8)
    session.drawn()
    assert (session.state, session.next_span()) == (SenderState.TOKEN_DUE, None)


@pytest.mark.parametrize("skip_blocks", [-1, 3])
def test_a_skip_beyond_the_full_blocks_is_refused(skip_blocks: int) -> None:
    with pytest.raises(InvalidRequest, match="skip_blocks"):
        sender(skip_blocks=skip_blocks)


def test_a_preempted_request_holds_its_next_blocks_back_until_computed_again() -> None:
    session = sender()
    session.computed(8)
    session.span_sent(session.next_span() or pytest.fail("no span"))
    session.computed(0)
    assert session.next_span() is None
    session.drawn()
    assert session.next_span() == Span(2, 1)


@pytest.mark.parametrize("tokens", [-1, 11])
def test_more_progress_than_tokens_is_refused(tokens: int) -> None:
    with pytest.raises(IllegalTransition):
        sender().computed(tokens)


def test_only_the_span_that_is_due_counts_as_sent() -> None:
    session = sender()
    session.computed(8)
    for wrong in (Span(1, 1), Span(0, 3), Span(0, 0)):
        with pytest.raises(IllegalTransition):
            session.span_sent(wrong)
    assert session.next_span() == Span(0, 2)


def test_a_span_stays_due_when_the_computation_goes_on_while_it_is_sent() -> None:
    session = sender()
    session.computed(8)
    span = session.next_span()
    session.drawn()
    assert session.next_span() == Span(0, 3)
    session.span_sent(span or pytest.fail("no span"))
    assert session.next_span() == Span(2, 1)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (claim(0, 1), "starts at block 0, expected 1"),  # duplicate
        (claim(2, 1), "starts at block 2, expected 1"),  # gap
        (claim(1, 3), "3 blocks, 2 are left"),
        (claim(1, 0), "0 blocks, 2 are left"),
        (BlocksClaim(1, 1, BLOCK_BYTES - 1, True), "99 bytes, expected 100"),
        (claim(1, 1, checksum_ok=False), "checksum"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused_and_changes_nothing(
    bad: BlocksClaim, says: str
) -> None:
    session = receiver()
    session.blocks(claim(0, 1))
    before = everything(session)
    with pytest.raises(TransferCorrupt, match=says):
        session.blocks(bad)
    assert everything(session) == before


def test_the_token_must_be_the_one_after_the_sequence() -> None:
    session = receiver_in(ReceiverState.ALL_HELD)
    with pytest.raises(TransferCorrupt, match="position 9, expected 10"):
        session.token(9)
    assert session.state is ReceiverState.ALL_HELD


def test_a_failed_transfer_keeps_full_blocks_and_drops_the_partial_one() -> None:
    session = receiver()
    kept = [session.kept_blocks]
    for first_block in range(3):
        session.blocks(claim(first_block, 1))
        kept.append(session.kept_blocks)
    assert kept == [0, 1, 2, 2]


def test_a_receiver_that_holds_every_block_waits_for_the_token_only() -> None:
    session = ReceiverSession(Extent(8, 4), held_blocks=2, block_bytes=BLOCK_BYTES)
    assert session.state is ReceiverState.ALL_HELD
