"""The registry of every metric: name, unit, labels, buckets. A metric exists here before it exists
in code.

vLLM's names and buckets where it has the metric, so that its dashboards and the Gateway API
endpoint picker work with Baton; our own (`baton_`) for hand-off and decisions. Knows no process:
each builds a `Metrics` over its own registry and reports what concerns it. Labels never carry
request ids, keys or prompts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Kind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()  # besides model_name, which every metric has
    buckets: tuple[float, ...] = ()


TTFT_BUCKETS_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
# vLLM's, with three finer ones in front: a small model decodes in less than its first bucket.
ITL_BUCKETS_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
LATENCY_BUCKETS_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
TOKEN_BUCKETS = (
    *(1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0),
    *(1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5),
)

_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

METRICS: tuple[MetricSpec, ...] = (
    # Router: what clients see.
    MetricSpec("vllm:request_success_total", _C, "Requests that ended", ("finished_reason",)),
    MetricSpec("vllm:prompt_tokens_total", _C, "Prompt tokens of accepted requests"),
    MetricSpec("vllm:generation_tokens_total", _C, "Tokens generated"),
    MetricSpec(
        "vllm:time_to_first_token_seconds", _H, "Arrival to first token", (), TTFT_BUCKETS_S
    ),
    MetricSpec("vllm:inter_token_latency_seconds", _H, "Between tokens", (), ITL_BUCKETS_S),
    MetricSpec(
        "vllm:e2e_request_latency_seconds", _H, "Arrival to last token", (), LATENCY_BUCKETS_S
    ),
    MetricSpec("vllm:request_prompt_tokens", _H, "Prompt length", (), TOKEN_BUCKETS),
    MetricSpec("vllm:request_generation_tokens", _H, "Output length", (), TOKEN_BUCKETS),
    MetricSpec("baton_router_requests_total", _C, "HTTP requests", ("endpoint", "status")),
    MetricSpec("baton_router_requests_inflight", _G, "Requests being served"),
    MetricSpec("baton_router_decisions_total", _C, "Routing decisions", ("reason",)),
    MetricSpec("baton_router_resubmissions_total", _C, "Moves to another decode worker"),
    MetricSpec("baton_router_workers_ready", _G, "Workers that take requests", ("role",)),
    # Workers: the engine.
    MetricSpec("vllm:num_requests_running", _G, "Requests in the running batch"),
    MetricSpec("vllm:num_requests_waiting", _G, "Requests waiting for blocks or budget"),
    MetricSpec("vllm:kv_cache_usage_perc", _G, "Share of KV blocks in use, 0 to 1"),
    MetricSpec("vllm:prefix_cache_queries_total", _C, "Prompt tokens looked up"),
    MetricSpec("vllm:prefix_cache_hits_total", _C, "Prompt tokens found"),
    MetricSpec("vllm:num_preemptions_total", _C, "Requests preempted for lack of blocks"),
    MetricSpec("vllm:spec_decode_num_draft_tokens_total", _C, "Tokens guessed by speculation"),
    MetricSpec("vllm:spec_decode_num_accepted_tokens_total", _C, "Guesses that were right"),
    MetricSpec("baton_engine_steps_total", _C, "Engine steps"),
    MetricSpec("baton_engine_step_seconds", _H, "Duration of a step", (), ITL_BUCKETS_S),
    MetricSpec("baton_cost_model_error_ratio", _G, "Mean error of predicted step durations"),
    MetricSpec("baton_cost_model_seconds", _G, "Cost of a step, per unit of a term", ("term",)),
    # Workers: the hand-off.
    MetricSpec("baton_handoff_total", _C, "Hand-offs ended", ("outcome",)),
    MetricSpec("baton_handoff_seconds", _H, "Call to first token", (), TTFT_BUCKETS_S),
    MetricSpec("baton_handoff_bytes_total", _C, "KV bytes moved", ("direction",)),
    MetricSpec("baton_decode_prefill_total", _C, "Where prompts were computed", ("path",)),
)


class Metrics:
    """The metrics of one process: made from the table above, all with the label `model_name`."""

    def __init__(self, registry: CollectorRegistry, *, model_name: str) -> None:
        self._registry = registry
        self._model_name = model_name
        self._collectors: dict[str, Counter | Gauge | Histogram] = {}

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        collector = self._labelled(name, Kind.COUNTER, labels)
        assert isinstance(collector, Counter)
        collector.inc(amount)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        collector = self._labelled(name, Kind.GAUGE, labels)
        assert isinstance(collector, Gauge)
        collector.set(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        collector = self._labelled(name, Kind.HISTOGRAM, labels)
        assert isinstance(collector, Histogram)
        collector.observe(value)

    def render(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self._registry)

    def declare(self, names: Iterable[str]) -> None:
        """Show label-less metrics at zero from the start: an absent series looks like a dead
        process."""
        for name in names:
            if not _SPECS[name].labels:
                self._labelled(name, _SPECS[name].kind, {})

    def _labelled(
        self, name: str, kind: Kind, labels: dict[str, str]
    ) -> Counter | Gauge | Histogram:
        spec = _SPECS[name]
        assert spec.kind is kind, f"{name} is a {spec.kind.value}"
        collector = self._collectors.get(name)
        if collector is None:
            collector = self._collectors[name] = self._created(spec)
        return collector.labels(model_name=self._model_name, **labels)

    def _created(self, spec: MetricSpec) -> Counter | Gauge | Histogram:
        names = ("model_name", *spec.labels)
        match spec.kind:
            case Kind.COUNTER:
                return Counter(spec.name, spec.help, names, registry=self._registry)
            case Kind.GAUGE:
                return Gauge(spec.name, spec.help, names, registry=self._registry)
            case Kind.HISTOGRAM:
                return Histogram(
                    spec.name, spec.help, names, buckets=spec.buckets, registry=self._registry
                )


_SPECS = {spec.name: spec for spec in METRICS}
