"""Decode's side of the hand-off: asks prefill candidates in order until one delivers everything.

A failed attempt keeps the full blocks it brought, so the next candidate (or the local prefill after
the last) begins behind them. Frames are written into the cache synchronously on the event loop:
once this task is cancelled, nothing is written any more and the blocks may be freed. Knows the
prefill service; knows neither the engine nor the router's stream.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import grpc
import grpc.aio

from baton.common.clock import Clock
from baton.common.errors import TransferCorrupt
from baton.common.logs import get_log
from baton.common.metrics import Metrics
from baton.common.tracing import NO_SPAN, Kind, Span
from baton.engine.batch import KvStore
from baton.engine.costmodel import CostModel
from baton.handoff.codec import (
    FirstToken,
    PrefillOrder,
    claim_from_wire,
    first_token_from_wire,
    order_to_wire,
)
from baton.handoff.layout import Extent, KvLayout
from baton.handoff.session import ReceiverSession, ReceiverState
from baton.rpc.channels import Channels
from baton.rpc.v1 import prefill_pb2, prefill_pb2_grpc

CANDIDATES_MAX = 4
"""Prefill workers asked before computing here: when four fail, a fifth is no better bet."""

FIRST_FRAME_LIMIT_S = 60.0
"""Until the first frame the prompt may wait in prefill's queue, where silence is normal. A frozen
or dead process is noticed within 15 s by keepalive; this is for an engine stuck behind a live one,
and for queues so long that computing here is the better end."""

STALL_LIMIT_S = 30.0
"""Between frames: a prompt begun is in every step, and no healthy step takes this long."""

LEFT_FOR_LOCAL = 0.5
"""No wait takes more than this share of the time the request has left: the rest is for computing
the prompt here."""


class Outcome(Enum):
    """How an attempt ended; the label of `baton_handoff_total`."""

    COMPLETE = "complete"
    REFUSED = "refused"  # draining, overloaded, unreachable, or gone midway
    LAYOUT_MISMATCH = "layout_mismatch"
    CORRUPT = "corrupt"
    STALLED = "stalled"
    FAILED = "failed"  # anything else the call ended with
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Transfer:
    """A reserved sequence that waits for its KV."""

    order: PrefillOrder
    candidates: tuple[str, ...]  # "host:port", best first
    block_table: tuple[int, ...]  # covers the whole sequence
    held_blocks: int  # leading blocks of it that hold KV already
    deadline_s: float  # on the clock's monotonic scale
    span: Span = NO_SPAN  # of the request


@dataclass(frozen=True, slots=True)
class Delivered:
    first_token: FirstToken


@dataclass(frozen=True, slots=True)
class Lost:
    """No candidate delivered everything. What `arrived` announced stays."""

    attempts: int


class _Pace:
    """How fast frames follow the first, whose wait is queueing and computing, not moving.

    Prefill computes between later frames as well, so this is what the hand-off brings, and at most
    what the network does.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._first_s: float | None = None
        self.bytes = 0
        self.duration_s = 0.0

    def frame(self, payload_bytes: int) -> None:
        now_s = self._clock.monotonic_s()
        if self._first_s is None:
            self._first_s = now_s
        else:
            self.bytes += payload_bytes
            self.duration_s = now_s - self._first_s


class Receiver:
    """Runs any number of transfers into one cache."""

    def __init__(
        self,
        *,
        layout: KvLayout,
        kv: KvStore,
        channels: Channels,
        clock: Clock,
        metrics: Metrics,
        costs: CostModel,
    ) -> None:
        self._layout = layout
        self._kv = kv
        self._channels = channels
        self._clock = clock
        self._metrics = metrics
        self._costs = costs
        self._log = get_log(__name__)

    async def receive(self, transfer: Transfer, arrived: Callable[[int], None]) -> Delivered | Lost:
        """Fetch the KV. `arrived(n)`: the first n blocks, all full, are in the cache."""
        extent = Extent(transfer.order.tokens, self._layout.block_size)
        held_blocks = transfer.held_blocks
        candidates = tuple(dict.fromkeys(transfer.candidates))[:CANDIDATES_MAX]
        for address in candidates:
            session = ReceiverSession(
                extent, held_blocks=held_blocks, block_bytes=self._layout.block_bytes
            )
            token = await self._attempt(transfer, address, session, arrived)
            if token is not None:
                return Delivered(token)
            held_blocks = session.kept_blocks
        return Lost(len(candidates))

    async def _attempt(
        self,
        transfer: Transfer,
        address: str,
        session: ReceiverSession,
        arrived: Callable[[int], None],
    ) -> FirstToken | None:
        """One candidate's answer; None, told to log and metrics, when it fails."""
        began_s = self._clock.monotonic_s()
        outcome, detail, skip_blocks = Outcome.CANCELLED, "", session.kept_blocks
        span = _begin_span(transfer, address, skip_blocks)
        try:
            with self._metrics.under_way("baton_handoff_inflight"):
                token = await self._run(transfer, address, session, arrived, span.traceparent)
            outcome = Outcome.COMPLETE
            self._metrics.observe("baton_handoff_seconds", self._clock.monotonic_s() - began_s)
            return token
        except TransferCorrupt as error:
            outcome, detail = Outcome.CORRUPT, error.message
        except TimeoutError:
            outcome, detail = Outcome.STALLED, "no frame within the limit"
        except grpc.aio.AioRpcError as error:
            outcome, detail = _outcome_of(error.code()), error.details() or error.code().name
        finally:
            if session.state is not ReceiverState.DONE:
                session.fail()
            self._metrics.count("baton_handoff_total", outcome=outcome.value)
            _tell_end(span, outcome, session)
        self._log.warning(
            "hand-off failed",
            request_id=transfer.order.request_id,
            prefill=address,
            outcome=outcome.value,
            detail=detail,
            skipped_blocks=skip_blocks,
            kept_blocks=session.kept_blocks,
            **transfer.span.log_fields,
        )
        return None

    async def _run(
        self,
        transfer: Transfer,
        address: str,
        session: ReceiverSession,
        arrived: Callable[[int], None],
        traceparent: str,
    ) -> FirstToken:
        request = order_to_wire(
            transfer.order,
            self._layout,
            skip_blocks=session.kept_blocks,
            traceparent=traceparent,
        )
        stub = prefill_pb2_grpc.PrefillStub(self._channels.channel(address))
        call = stub.Run(request, timeout=max(0.0, self._left_s(transfer)))
        limit_s, pace = FIRST_FRAME_LIMIT_S, _Pace(self._clock)
        try:
            while True:
                async with asyncio.timeout(min(limit_s, self._left_s(transfer) * LEFT_FOR_LOCAL)):
                    frame = await call.read()
                if not isinstance(frame, prefill_pb2.PrefillFrame):
                    raise TransferCorrupt("the hand-off ended without a first token")
                if frame.HasField("first_token"):
                    token = first_token_from_wire(frame.first_token)
                    session.token(token.position)
                    self._costs.learn_transfer(address, pace.bytes, pace.duration_s)
                    return token
                pace.frame(self._write(frame.kv, transfer, session, arrived))
                limit_s = STALL_LIMIT_S
        finally:
            call.cancel()  # prefill stops at once; after the last frame it has nothing left to do

    def _write(
        self,
        frame: prefill_pb2.KvBlocks,
        transfer: Transfer,
        session: ReceiverSession,
        arrived: Callable[[int], None],
    ) -> int:
        """The payload's bytes."""
        payload = frame.payload  # a copy each time it is asked for
        claim = claim_from_wire(frame, payload)
        span = session.check(claim)
        kept_blocks = session.kept_blocks
        self._kv.write_blocks(transfer.block_table[span.first_block : span.end_block], payload)
        session.blocks(claim)
        self._metrics.count("baton_handoff_bytes_total", len(payload), direction="received")
        if session.kept_blocks > kept_blocks:
            arrived(session.kept_blocks)
        return len(payload)

    def _left_s(self, transfer: Transfer) -> float:
        return transfer.deadline_s - self._clock.monotonic_s()


def _begin_span(transfer: Transfer, address: str, skip_blocks: int) -> Span:
    return transfer.span.child(
        "hand-off",
        Kind.CLIENT,
        {"baton.worker": address, "baton.skipped_blocks": skip_blocks},
    )


def _tell_end(span: Span, outcome: Outcome, session: ReceiverSession) -> None:
    span.note({"baton.handoff.outcome": outcome.value, "baton.kept_blocks": session.kept_blocks})
    if outcome not in (Outcome.COMPLETE, Outcome.CANCELLED):
        span.fail(outcome.value)
    span.end()


_REFUSALS = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


def _outcome_of(code: grpc.StatusCode) -> Outcome:
    if code in _REFUSALS:
        return Outcome.REFUSED
    return (
        Outcome.LAYOUT_MISMATCH if code is grpc.StatusCode.FAILED_PRECONDITION else Outcome.FAILED
    )
