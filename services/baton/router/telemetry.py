"""What one client request adds to the metrics, and its one log line when it ends.

Knows metric names and the clock; knows no HTTP. Neither prompts nor outputs are ever logged.
"""

from baton.common.clock import Clock
from baton.common.errors import BatonError
from baton.common.logs import get_log
from baton.common.metrics import Metrics
from baton.router.openai.generate import Piece
from baton.router.openai.responses import Usage

ROUTER_METRICS = (
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:time_to_first_token_seconds",
    "vllm:inter_token_latency_seconds",
    "vllm:e2e_request_latency_seconds",
    "vllm:request_prompt_tokens",
    "vllm:request_generation_tokens",
    "baton_router_requests_inflight",
    "baton_router_resubmissions_total",
)

_log = get_log(__name__)


class Meter:
    """Measures one request from its admission to its end."""

    def __init__(self, metrics: Metrics, clock: Clock, request_id: str, usage: Usage) -> None:
        self._metrics = metrics
        self._clock = clock
        self._request_id = request_id
        self._usage = usage
        self._started_s = clock.monotonic_s()
        self._last_token_s: dict[int, float] = {}  # by choice
        self._first_token_s: float | None = None
        metrics.count("vllm:prompt_tokens_total", usage.prompt_tokens)
        metrics.observe("vllm:request_prompt_tokens", usage.prompt_tokens)

    def piece(self, piece: Piece) -> None:
        if piece.samples:
            self._tokens(piece.index, len(piece.samples))
        if piece.finish is not None:
            self._metrics.count("vllm:request_success_total", finished_reason=piece.finish.value)

    def finished(self) -> None:
        elapsed_s = self._clock.monotonic_s() - self._started_s
        self._metrics.observe("vllm:e2e_request_latency_seconds", elapsed_s)
        self._metrics.observe("vllm:request_generation_tokens", self._usage.completion_tokens)
        self._tell("finished")

    def failed(self, error: BatonError) -> None:
        self._metrics.count("vllm:request_success_total", finished_reason="error")
        self._tell(error.code)

    def abandoned(self) -> None:
        """The client went away."""
        self._metrics.count("vllm:request_success_total", finished_reason="abort")
        self._tell("client_gone")

    def _tokens(self, choice: int, count: int) -> None:
        now_s = self._clock.monotonic_s()
        last_s = self._last_token_s.get(choice)
        self._last_token_s[choice] = now_s
        if last_s is None:
            self._first_token_s = self._first_token_s or now_s
            since_s = now_s - self._started_s
            self._metrics.observe("vllm:time_to_first_token_seconds", since_s)
        else:
            self._metrics.observe("vllm:inter_token_latency_seconds", (now_s - last_s) / count)
        self._metrics.count("vllm:generation_tokens_total", count)

    def _tell(self, outcome: str) -> None:
        first_s = self._first_token_s
        _log.info(
            "request ended",
            request_id=self._request_id,
            outcome=outcome,
            prompt_tokens=self._usage.prompt_tokens,
            cached_tokens=self._usage.cached_tokens,
            completion_tokens=self._usage.completion_tokens,
            ttft_s=None if first_s is None else round(first_s - self._started_s, 4),
            duration_s=round(self._clock.monotonic_s() - self._started_s, 4),
        )
