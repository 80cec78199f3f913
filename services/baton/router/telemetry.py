"""What one client request adds to the metrics and to its span, and its one log line when it ends.

Knows metric names and the clock; knows no HTTP. Neither prompts nor outputs are ever logged.
"""

from dataclasses import dataclass

from baton.common.clock import Clock
from baton.common.errors import BatonError, SloUnattainable
from baton.common.logs import get_log
from baton.common.metrics import Metrics
from baton.router.caller import Caller
from baton.router.openai.generate import Piece
from baton.router.openai.plan import Plan
from baton.router.openai.responses import Usage
from baton.router.tally import Tally

ROUTER_METRICS = (
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:time_to_first_token_seconds",
    "vllm:inter_token_latency_seconds",
    "vllm:e2e_request_latency_seconds",
    "vllm:request_prompt_tokens",
    "vllm:request_generation_tokens",
    "vllm:request_params_n",
    "vllm:request_params_max_tokens",
    "vllm:request_success_total",
    "vllm:admission_rejections_total",
    "baton_router_requests_inflight",
    "baton_router_requests_held",
    "baton_router_queue_seconds",
    "baton_router_refusals_total",
    "baton_router_disconnects_total",
    "baton_router_workers_refused_total",
    "baton_router_decisions_total",
    "baton_router_resubmissions_total",
    "baton_router_slo_requests_total",
)

_log = get_log(__name__)


def note_asked(metrics: Metrics, plan: Plan) -> None:
    """What a request asks for, whether it is admitted or not."""
    prompts = sum(choice.first_of_prompt for choice in plan.choices)
    metrics.observe("vllm:request_params_n", len(plan.choices) / prompts)
    tokens_max = plan.choices[0].params.max_tokens  # every choice of a request has the same
    metrics.observe("vllm:request_params_max_tokens", tokens_max)


@dataclass(slots=True)
class _Stretch:
    """The tokens of one choice in time."""

    first_s: float
    last_s: float
    tokens: int

    @property
    def itl_s(self) -> float:
        """Mean time between two tokens."""
        return (self.last_s - self.first_s) / (self.tokens - 1)


class Meter:
    """Measures one request from its admission to its end."""

    def __init__(
        self,
        metrics: Metrics,
        tally: Tally,
        clock: Clock,
        caller: Caller,
        answer_id: str,
        usage: Usage,
    ) -> None:
        self._metrics = metrics
        self._tally = tally
        self._clock = clock
        self._request_id = f"{caller.request_id} {answer_id}"
        self._tenant = None if caller.tenant is None else caller.tenant.name
        self._usage = usage
        self._span = caller.trace.span
        self._finishes: list[str] = []
        self._started_s = clock.monotonic_s()
        self._stretches: dict[int, _Stretch] = {}  # by choice
        self._first_token_s: float | None = None
        self._count_tokens = metrics.counting("vllm:generation_tokens_total")
        self._observe_gap = metrics.observing("vllm:inter_token_latency_seconds")
        metrics.count("vllm:prompt_tokens_total", usage.prompt_tokens)
        metrics.observe("vllm:request_prompt_tokens", usage.prompt_tokens)

    def piece(self, piece: Piece) -> None:
        if piece.samples:
            self._tokens(piece.index, len(piece.samples))
        if piece.finish is not None:
            self._finishes.append(piece.finish.value)
            self._metrics.count("vllm:request_success_total", finished_reason=piece.finish.value)
            stretch = self._stretches.get(piece.index)
            if stretch is not None and stretch.tokens > 1:
                self._tally.output_ended(stretch.itl_s)

    def finished(self) -> None:
        elapsed_s = self._clock.monotonic_s() - self._started_s
        self._metrics.observe("vllm:e2e_request_latency_seconds", elapsed_s)
        self._metrics.observe("vllm:request_generation_tokens", self._usage.completion_tokens)
        self._tell("finished")

    def failed(self, error: BatonError) -> None:
        if isinstance(error, SloUnattainable):  # no fault of the service's, but the client's limit
            self._metrics.count("baton_router_refusals_total", reason="slo")
        else:
            self._metrics.count("vllm:request_success_total", finished_reason="error")
        self._span.fail(error.code)
        self._tell(error.code)

    def abandoned(self) -> None:
        """The client went away."""
        self._metrics.count("vllm:request_success_total", finished_reason="abort")
        phase = "waiting" if self._first_token_s is None else "answering"
        self._metrics.count("baton_router_disconnects_total", phase=phase)
        self._tell("client_gone")

    def _tokens(self, choice: int, count: int) -> None:
        now_s = self._clock.monotonic_s()
        stretch = self._stretches.get(choice)
        if stretch is None:
            self._stretches[choice] = _Stretch(now_s, now_s, count)
            ttft_s = now_s - self._started_s
            if self._first_token_s is None:
                self._first_token_s = now_s
                self._span.event("first token", {"baton.ttft_s": ttft_s})
            self._metrics.observe("vllm:time_to_first_token_seconds", ttft_s)
            self._tally.first_token(ttft_s)
        else:
            self._observe_gap((now_s - stretch.last_s) / count)
            stretch.last_s, stretch.tokens = now_s, stretch.tokens + count
        self._count_tokens(count)

    def _tell(self, outcome: str) -> None:
        first_s = self._first_token_s
        self._count_tenant()
        self._span.note(
            {
                "baton.outcome": outcome,
                "gen_ai.response.finish_reasons": self._finishes or None,
                "gen_ai.usage.output_tokens": self._usage.completion_tokens,
                "gen_ai.usage.cache_read.input_tokens": self._usage.cached_tokens,
            }
        )
        _log.info(
            "request ended",
            request_id=self._request_id,
            outcome=outcome,
            prompt_tokens=self._usage.prompt_tokens,
            cached_tokens=self._usage.cached_tokens,
            completion_tokens=self._usage.completion_tokens,
            ttft_s=None if first_s is None else round(first_s - self._started_s, 4),
            duration_s=round(self._clock.monotonic_s() - self._started_s, 4),
            **({} if self._tenant is None else {"tenant": self._tenant}),
            **self._span.log_fields,
        )

    def _count_tenant(self) -> None:
        """All at the end of a request: what is counted per token is counted for all."""
        tenant, usage = self._tenant, self._usage
        if tenant is None:
            return
        count = self._metrics.count
        count("baton_router_tenant_requests_total", tenant=tenant)
        count("baton_router_tenant_prompt_tokens_total", usage.prompt_tokens, tenant=tenant)
        count("baton_router_tenant_output_tokens_total", usage.completion_tokens, tenant=tenant)
