"""What a worker tells of its requests in traces: each one's span, its wait and its computing.

Written on the event loop, from turns as the engine's thread stamped them. Knows turns and spans;
what a role has to add it adds itself.
"""

import asyncio
from types import TracebackType

from baton.common.errors import BatonError, DeadlineExceeded, EngineFailure
from baton.common.tracing import NO_SPAN, Attributes, Kind, Parent, Span, Tracing
from baton.engine.messages import Tokens
from baton.engine.params import FinishReason
from baton.worker.turns import Turn

_ERRORS: dict[FinishReason | None, str] = {
    FinishReason.ERROR: EngineFailure.code,
    FinishReason.DEADLINE: DeadlineExceeded.code,
}


class RequestSpan:
    """One request on this worker. As a `with` block, it ends as the block does."""

    def __init__(self, span: Span, followed: "dict[str, RequestSpan]") -> None:
        self.span = span
        self._followed = followed
        self._engine_id = ""
        self._computes = True
        self._queue = self._compute = NO_SPAN
        self._told_first = False
        self._tokens = self._preemptions = 0

    def follow(self, engine_id: str, *, computes: bool) -> None:
        """It waits in the engine's queue from now on. `computes`: once it has blocks its prompt is
        computed here; else its KV comes from elsewhere, unless `computing` is told."""
        if self.span is NO_SPAN:
            return
        self._engine_id, self._computes = engine_id, computes
        self._queue = self.span.child("queue")
        self._followed[engine_id] = self

    def admitted(self, at_s: float) -> None:
        if self._queue is NO_SPAN:
            self._preemptions += 1
            self.span.event("computed again after a preemption", at_s=at_s)
            return
        self._queue.end(at_s=at_s)
        self._queue = NO_SPAN
        if self._computes:
            self.computing(at_s=at_s)

    def computing(self, *, at_s: float | None = None) -> None:
        """Its prompt, or what is missing of it, is computed here."""
        self._compute = self.span.child("compute", at_s=at_s)

    def brought(self, event: Tokens, at_s: float) -> None:
        if event.cached_tokens is not None:
            self.span.note({"gen_ai.usage.cache_read.input_tokens": event.cached_tokens})
        if event.tokens and not self._told_first:
            self._told_first = True
            self.span.event("first token", at_s=at_s)
            self._compute.end(at_s=at_s)
        self._tokens += len(event.tokens)

    def end(self, finish: FinishReason | None = None, error: BatonError | None = None) -> None:
        """`finish`: what its last event said, if there was one."""
        self._followed.pop(self._engine_id, None)
        code = _ERRORS.get(finish) if error is None else error.code
        if code is not None:
            self.span.fail(code)
        self.span.note(
            {
                "gen_ai.response.finish_reasons": None if finish is None else [finish.value],
                "gen_ai.usage.output_tokens": self._tokens,
                "baton.preemptions": self._preemptions,
            }
        )
        for span in (self._queue, self._compute, self.span):
            span.end()

    def __enter__(self) -> "RequestSpan":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, BatonError):
            self.end(error=error)
        elif isinstance(error, asyncio.CancelledError):
            self.end(FinishReason.CANCELLED)
        else:
            self.end(FinishReason.ERROR)


class RequestSpans:
    """Follows requests through the engine's turns. Follows none where nothing is traced."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._followed: dict[str, RequestSpan] = {}  # by engine id; as many as are live

    @property
    def live(self) -> int:
        return len(self._followed)

    def begin(self, name: str, traceparent: str, attributes: Attributes) -> RequestSpan:
        span = self._tracing.begin(name, Kind.SERVER, Parent(traceparent), attributes)
        return RequestSpan(span, self._followed)

    def observe(self, turn: Turn) -> None:
        if not self._followed:
            return
        for request_id in turn.report.admitted:
            if (request := self._followed.get(request_id)) is not None:
                request.admitted(turn.planned_s)
        for event in turn.report.events:
            request = self._followed.get(event.request_id)
            if request is not None and isinstance(event, Tokens):
                request.brought(event, turn.ended_s)
