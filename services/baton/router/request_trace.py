"""What one client request tells in traces: its own span, and one for each try on a worker.

Attributes have the names of OpenTelemetry's GenAI conventions where those have one, else `baton.*`.
Neither prompts nor outputs are told. Knows spans; knows no HTTP and no gRPC.
"""

from types import TracebackType

from baton.common.errors import BatonError
from baton.common.tracing import NO_SPAN, Kind, Span
from baton.engine.params import FinishReason
from baton.router.decide import Decision


class RequestTrace:
    """Shared by all choices of a request, each of which has tries of its own."""

    __slots__ = ("_tries", "span")

    def __init__(self, span: Span = NO_SPAN) -> None:
        self.span = span
        self._tries = 0

    def waited(self, waited_s: float) -> None:
        """It was held until a worker could take it, or until it gave up."""
        self.span.event("waited for a worker", {"baton.wait_s": waited_s})

    def begin_try(self, decision: Decision, *, work_id: str, output_tokens: int) -> "TryTrace":
        """`output_tokens`: what earlier tries of this choice generated."""
        self._tries += 1
        self.span.note({"baton.tries": self._tries})
        attributes = {
            "baton.work_id": work_id,
            "baton.worker": decision.decode.address,
            "baton.decision.reason": decision.reason.value,
            "baton.decision.prefill_worker": next(iter(decision.prefill_candidates), None),
            "baton.decision.cached_tokens": decision.cached_tokens,
            "baton.output_tokens_before": output_tokens,
        }
        return TryTrace(self.span.child("try", Kind.CLIENT, attributes), output_tokens)


class TryTrace:
    """The `with` block is the try: however it is left, the span ends."""

    __slots__ = ("_before", "_span")

    def __init__(self, span: Span, output_tokens: int) -> None:
        self._span = span
        self._before = output_tokens

    @property
    def traceparent(self) -> str:
        return self._span.traceparent

    def first_token(self, cached_tokens: int | None) -> None:
        self._span.event("first token")
        self._span.note({"gen_ai.usage.cache_read.input_tokens": cached_tokens})

    def finished(self, finish: FinishReason) -> None:
        self._span.note({"gen_ai.response.finish_reasons": [finish.value]})

    def failed(self, error: BatonError, *, lost: bool) -> None:
        self._span.note({"baton.worker_lost": lost})
        self._span.fail(error.code)

    def generated(self, output_tokens: int) -> None:
        """`output_tokens`: of the choice so far."""
        self._span.note({"gen_ai.usage.output_tokens": output_tokens - self._before})

    def __enter__(self) -> "TryTrace":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._span.end()
