"""How long each request waited, was prefilled and decoded: vLLM's times, from the engine's turns.

Knows times of submits and turns; knows no clock: both came stamped from the engine's thread.
"""

from dataclasses import dataclass

from baton.common.metrics import Metrics
from baton.engine.messages import Tokens
from baton.worker.turns import Turn

TIMES = (
    "vllm:request_queue_time_seconds",
    "vllm:request_prefill_time_seconds",
    "vllm:request_decode_time_seconds",
    "vllm:request_inference_time_seconds",
)


@dataclass(slots=True)
class _Marks:
    """On the engine thread's clock, seconds; None: has not come yet."""

    submitted_s: float
    export: bool
    admitted_s: float | None = None
    first_token_s: float | None = None


class RequestTimes:
    """Forgets a request with its last event, or with the first token it hands over."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._marks: dict[str, _Marks] = {}
        metrics.declare(TIMES)

    @property
    def live(self) -> int:
        return len(self._marks)

    def observe(self, turn: Turn) -> None:
        for command, submitted_s in turn.submitted:
            self._marks[command.request_id] = _Marks(submitted_s, command.export)
        for request_id in turn.report.admitted:
            marks = self._marks.get(request_id)
            if marks is not None and marks.admitted_s is None:  # else it comes back, preempted
                marks.admitted_s = turn.planned_s
                self._took("queue", marks.submitted_s, turn.planned_s)
        for event in turn.report.events:
            if isinstance(event, Tokens):
                self._told(event, turn.ended_s)
        for refused in turn.refused:
            self._marks.pop(refused.request_id, None)

    def _told(self, event: Tokens, now_s: float) -> None:
        marks = self._marks.get(event.request_id)
        if marks is None:
            return
        if event.tokens and marks.first_token_s is None and marks.admitted_s is not None:
            marks.first_token_s = now_s
            self._took("prefill", marks.admitted_s, now_s)
        if event.finish is None and not (marks.export and event.tokens):
            return
        del self._marks[event.request_id]
        if marks.admitted_s is not None and marks.first_token_s is not None:
            self._took("inference", marks.admitted_s, now_s)
            if not marks.export:
                self._took("decode", marks.first_token_s, now_s)

    def _took(self, stage: str, began_s: float, ended_s: float) -> None:
        self._metrics.observe(f"vllm:request_{stage}_time_seconds", max(0.0, ended_s - began_s))
