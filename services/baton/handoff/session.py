"""The hand-off of one sequence as two state machines, sender and receiver. Pure (sans-IO).

Each machine is a table of (state, event) -> state plus state-triggered moves; everything that
decides the protocol lives here. Sender: told how far the computation is, says which span of blocks
may go now. Receiver: told what each frame claims to be, says whether it fits. Knows no gRPC, no
bytes and no clock; `audit` states what holds at any moment.
"""

from dataclasses import dataclass
from enum import Enum

from baton.common.errors import IllegalTransition, InvalidRequest, TransferCorrupt
from baton.handoff.layout import Extent

FRAME_PAYLOAD_BYTES_MAX = 4 * 1024 * 1024
"""Large enough that gRPC's cost per message vanishes, small enough that copying one frame into the
cache (about 1 ms) does not stall the event loop, and that a broken transfer loses little."""


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive blocks of the sequence."""

    first_block: int
    block_count: int

    @property
    def end_block(self) -> int:
        return self.first_block + self.block_count


def span_blocks_max(block_bytes: int) -> int:
    """Blocks of `block_bytes` that fit a frame; at least one, however large it is."""
    return max(1, FRAME_PAYLOAD_BYTES_MAX // block_bytes)


class SenderState(Enum):
    COMPUTING = "computing"  # full blocks go as they are computed
    FLUSHING = "flushing"  # all computed, first token drawn, blocks left to send
    TOKEN_DUE = "token_due"  # all blocks sent
    DONE = "done"
    FAILED = "failed"


class SenderEvent(Enum):
    COMPUTED = "computed"
    DRAWN = "drawn"
    SPAN_SENT = "span_sent"
    TOKEN_SENT = "token_sent"
    FAIL = "fail"


SENDER_TRANSITIONS: dict[tuple[SenderState, SenderEvent], SenderState] = {
    (SenderState.COMPUTING, SenderEvent.COMPUTED): SenderState.COMPUTING,
    (SenderState.COMPUTING, SenderEvent.SPAN_SENT): SenderState.COMPUTING,
    (SenderState.COMPUTING, SenderEvent.DRAWN): SenderState.FLUSHING,
    (SenderState.COMPUTING, SenderEvent.FAIL): SenderState.FAILED,
    (SenderState.FLUSHING, SenderEvent.SPAN_SENT): SenderState.FLUSHING,
    (SenderState.FLUSHING, SenderEvent.FAIL): SenderState.FAILED,
    (SenderState.TOKEN_DUE, SenderEvent.TOKEN_SENT): SenderState.DONE,
    (SenderState.TOKEN_DUE, SenderEvent.FAIL): SenderState.FAILED,
}
"""State-triggered besides: FLUSHING becomes TOKEN_DUE as soon as no block is left to send."""


class SenderSession:
    """The prefill side. Raises InvalidRequest when `skip_blocks` cannot be right."""

    def __init__(self, extent: Extent, *, skip_blocks: int, blocks_max: int) -> None:
        if not 0 <= skip_blocks <= extent.full_block_count:
            raise InvalidRequest(
                f"skip_blocks is {skip_blocks}; the sequence has {extent.full_block_count} full"
                " blocks"
            )
        self._extent = extent
        self._blocks_max = blocks_max
        self._sent_blocks = skip_blocks
        self._computed_tokens = 0
        self.state = SenderState.COMPUTING

    def computed(self, tokens: int) -> None:
        """The first `tokens` are computed. May fall back: a preempted request computes anew."""
        if not 0 <= tokens <= self._extent.tokens:
            raise self._illegal(f"computed {tokens} of {self._extent.tokens} tokens")
        self._advance(SenderEvent.COMPUTED)
        self._computed_tokens = tokens

    def drawn(self) -> None:
        """The first token is drawn, hence all tokens before it are computed."""
        self._advance(SenderEvent.DRAWN)
        self._computed_tokens = self._extent.tokens
        self._settle()

    def next_span(self) -> Span | None:
        """What may be sent now; None while the computation is not further, or all is sent."""
        if self.state not in (SenderState.COMPUTING, SenderState.FLUSHING):
            return None
        ready = self._extent.blocks_ready(self._computed_tokens)
        if self.state is SenderState.COMPUTING:  # the partial last block goes at the end only
            ready = min(ready, self._extent.full_block_count)
        count = min(ready - self._sent_blocks, self._blocks_max)
        return Span(self._sent_blocks, count) if count > 0 else None

    def may_send(self, span: Span) -> bool:
        """Whether `span` is what `next_span` says, or the beginning of it.

        While it was being read the computation may have gone on, or fallen back (a preemption).
        """
        due = self.next_span()
        begins = due is not None and span.first_block == due.first_block
        return due is not None and begins and 1 <= span.block_count <= due.block_count

    def span_sent(self, span: Span) -> None:
        """`span` went out; it must be one that `may_send`."""
        if not self.may_send(span):
            raise self._illegal(f"{SenderEvent.SPAN_SENT.value} {span}")
        self._advance(SenderEvent.SPAN_SENT)
        self._sent_blocks = span.end_block
        self._settle()

    def token_sent(self) -> None:
        self._advance(SenderEvent.TOKEN_SENT)

    def fail(self) -> None:
        self._advance(SenderEvent.FAIL)

    def audit(self) -> None:
        """Raises AssertionError when the machine contradicts itself."""
        assert 0 <= self._sent_blocks <= self._extent.block_count
        if self.state in (SenderState.TOKEN_DUE, SenderState.DONE):
            assert self._sent_blocks == self._extent.block_count

    def _advance(self, event: SenderEvent) -> None:
        target = SENDER_TRANSITIONS.get((self.state, event))
        if target is None:
            raise self._illegal(event.value)
        self.state = target

    def _settle(self) -> None:
        all_sent = self._sent_blocks == self._extent.block_count
        if self.state is SenderState.FLUSHING and all_sent:
            self.state = SenderState.TOKEN_DUE

    def _illegal(self, event: str) -> IllegalTransition:
        return IllegalTransition("hand-off sender", self.state.value, event)


class ReceiverState(Enum):
    RECEIVING = "receiving"
    ALL_HELD = "all_held"  # every block is here; only the first token may come
    DONE = "done"
    FAILED = "failed"


class ReceiverEvent(Enum):
    BLOCKS = "blocks"
    TOKEN = "token"
    FAIL = "fail"


RECEIVER_TRANSITIONS: dict[tuple[ReceiverState, ReceiverEvent], ReceiverState] = {
    (ReceiverState.RECEIVING, ReceiverEvent.BLOCKS): ReceiverState.RECEIVING,
    (ReceiverState.RECEIVING, ReceiverEvent.FAIL): ReceiverState.FAILED,
    (ReceiverState.ALL_HELD, ReceiverEvent.TOKEN): ReceiverState.DONE,
    (ReceiverState.ALL_HELD, ReceiverEvent.FAIL): ReceiverState.FAILED,
}
"""State-triggered besides: RECEIVING becomes ALL_HELD as soon as every block is held."""


@dataclass(frozen=True, slots=True)
class BlocksClaim:
    """What a KV frame says of itself, and whether its checksum agrees with its payload."""

    first_block: int
    block_count: int
    payload_bytes: int
    checksum_ok: bool


class ReceiverSession:
    """The decode side of one attempt, which begins with `held_blocks` leading blocks in the cache.

    A frame that does not fit raises TransferCorrupt and changes nothing: it is the peer's fault.
    """

    def __init__(self, extent: Extent, *, held_blocks: int, block_bytes: int) -> None:
        assert 0 <= held_blocks <= extent.full_block_count, "only full blocks are ever held before"
        self._extent = extent
        self._block_bytes = block_bytes
        self._held_blocks = held_blocks
        self.state = ReceiverState.RECEIVING
        self._settle()

    @property
    def kept_blocks(self) -> int:
        """Leading blocks that outlive a failure of this attempt: full ones, written completely."""
        return min(self._held_blocks, self._extent.full_block_count)

    def check(self, claim: BlocksClaim) -> Span:
        """Where the frame's blocks belong. To be asked before its payload is written."""
        self._target(ReceiverEvent.BLOCKS)
        left = self._extent.block_count - self._held_blocks
        if claim.first_block != self._held_blocks:
            raise TransferCorrupt(
                f"KV frame starts at block {claim.first_block}, expected {self._held_blocks}"
            )
        if not 1 <= claim.block_count <= left:
            raise TransferCorrupt(f"KV frame has {claim.block_count} blocks, {left} are left")
        expected_bytes = claim.block_count * self._block_bytes
        if claim.payload_bytes != expected_bytes:
            raise TransferCorrupt(
                f"KV frame has {claim.payload_bytes} bytes, expected {expected_bytes}"
            )
        if not claim.checksum_ok:
            raise TransferCorrupt("the checksum of a KV frame is wrong")
        return Span(claim.first_block, claim.block_count)

    def blocks(self, claim: BlocksClaim) -> None:
        """The frame's blocks are in the cache."""
        span = self.check(claim)
        self.state = self._target(ReceiverEvent.BLOCKS)
        self._held_blocks = span.end_block
        self._settle()

    def token(self, position: int) -> None:
        """The first token came, drawn for index `position` of prompt + output."""
        target = self._target(ReceiverEvent.TOKEN)
        if position != self._extent.tokens:
            raise TransferCorrupt(
                f"the first token is for position {position}, expected {self._extent.tokens}"
            )
        self.state = target

    def fail(self) -> None:
        """Nothing more will come of this attempt."""
        target = RECEIVER_TRANSITIONS.get((self.state, ReceiverEvent.FAIL))
        if target is None:
            raise IllegalTransition("hand-off receiver", self.state.value, ReceiverEvent.FAIL.value)
        self.state = target

    def audit(self) -> None:
        """Raises AssertionError when the machine contradicts itself."""
        assert 0 <= self._held_blocks <= self._extent.block_count
        all_held = self._held_blocks == self._extent.block_count
        assert (self.state is ReceiverState.RECEIVING) <= (not all_held)
        assert (self.state in (ReceiverState.ALL_HELD, ReceiverState.DONE)) <= all_held

    def _target(self, event: ReceiverEvent) -> ReceiverState:
        target = RECEIVER_TRANSITIONS.get((self.state, event))
        if target is None:
            raise TransferCorrupt(f"{event.value} frame in state {self.state.value}")
        return target

    def _settle(self) -> None:
        all_held = self._held_blocks == self._extent.block_count
        if self.state is ReceiverState.RECEIVING and all_held:
            self.state = ReceiverState.ALL_HELD
