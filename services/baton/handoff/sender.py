"""Prefill's side of one hand-off: engine events in, frames out, KV read at the moment it is sent.

Blocks are read when gRPC asks for the next frame, so its flow control bounds memory to one frame
per call. Knows the engine's events and the cache; knows no gRPC call: the servicer writes what
`frames` yields.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from baton.common.errors import Cancelled
from baton.engine.batch import KvStore
from baton.engine.failure import request_failure
from baton.engine.messages import Event, Progress, Tokens
from baton.engine.params import FinishReason
from baton.handoff.codec import FirstToken, blocks_frame, first_token_frame
from baton.handoff.session import SenderSession, Span
from baton.rpc.v1 import prefill_pb2


class ExportEvents(Protocol):
    """The engine's events for one exporting request, in order."""

    def take(self) -> Sequence[Event]:
        """All that came since the last call. Raises BatonError when the request was refused."""
        ...

    async def wait(self) -> None:
        """Returns once `take` has something to say."""
        ...


class Sender:
    """Sends the KV of a sequence of `tokens` tokens, then its first token."""

    def __init__(
        self, session: SenderSession, events: ExportEvents, kv: KvStore, *, tokens: int
    ) -> None:
        self._session = session
        self._events = events
        self._kv = kv
        self._tokens = tokens
        self._block_table: tuple[int, ...] = ()
        self._first_token: FirstToken | None = None

    @property
    def computed(self) -> bool:
        """Whether the first token is drawn: from then on the blocks are worth caching."""
        return self._first_token is not None

    async def frames(self) -> AsyncGenerator[prefill_pb2.PrefillFrame, None]:
        """Every frame of the call. Raises BatonError when the engine gives the request up."""
        while True:
            self._absorb(self._events.take())
            span = self._session.next_span()
            if span is not None:
                payload = await self._read(span)
                if payload is not None:
                    self._session.span_sent(span)
                    yield blocks_frame(span, payload)
            elif self._first_token is not None:
                self._session.token_sent()
                yield first_token_frame(self._first_token)
                return
            else:
                await self._events.wait()

    async def _read(self, span: Span) -> bytes | None:
        """The span's bytes, or None when the blocks were taken away while they were read.

        The engine reports before it reuses blocks (preemption, a failed row), and reports queue on
        this loop; so whatever could have spoilt the bytes is known after one turn of the loop.
        """
        blocks = self._block_table[span.first_block : span.end_block]
        payload = self._kv.read_blocks(blocks)
        await asyncio.sleep(0)
        self._absorb(self._events.take())
        same_blocks = self._block_table[span.first_block : span.end_block] == blocks
        return payload if same_blocks and self._session.may_send(span) else None

    def _absorb(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Progress):
                self._block_table = event.block_table
                self._session.computed(event.computed_tokens)
            elif isinstance(event, Tokens):
                self._absorb_tokens(event)

    def _absorb_tokens(self, event: Tokens) -> None:
        if event.tokens:
            self._first_token = FirstToken(
                event.tokens[0], position=self._tokens, cached_tokens=event.cached_tokens or 0
            )
            self._session.drawn()
        elif event.finish is FinishReason.ERROR:
            raise request_failure(event.error)
        elif event.finish is not None:
            raise Cancelled("the request was cancelled")
