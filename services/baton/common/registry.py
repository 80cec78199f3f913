"""The registry of every metric of router and workers: name, unit, labels, buckets. A metric exists
here before it exists in code.

vLLM's names and buckets where it has the metric, so that its dashboards and the Gateway API
endpoint picker work with Baton; our own (`baton_`) for hand-off and decisions. Labels never carry
request ids, keys or prompts. docs/metrics.md is made from these tables; the operator's table is its
own.
"""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()  # besides model_name, which every metric of router and workers has
    buckets: tuple[float, ...] = ()
    # Of each label, where they are few and known: shown at zero once declared, because a rate does
    # not see a series that begins at one.
    values: tuple[tuple[str, ...], ...] = ()

    @property
    def unit(self) -> str:
        """Of a value, as the name says it; "1" is a plain count."""
        stem = self.name.removesuffix("_total")
        if stem.endswith("_timestamp_seconds"):
            return "Unix time, seconds"
        if stem.endswith(("_perc", "_ratio")):
            return "ratio"
        words = {"seconds": "seconds", "bytes": "bytes", "tokens": "tokens"}
        return words.get(stem.rsplit("_", 1)[-1], "1")


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
STEP_TOKEN_BUCKETS = (1.0, *(float(2**power) for power in range(3, 15)))
# Few: there are as many for each tenant.
TURN_BUCKETS_S = (0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)
CHOICE_BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0)

_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

# Every process of the data plane.
PROCESS_TABLE: tuple[MetricSpec, ...] = (
    MetricSpec("baton_build_info", _G, "Always 1; the label says what runs", ("version",)),
    MetricSpec("baton_draining", _G, "1 while the process takes no new work and finishes its own"),
    MetricSpec(
        "baton_tls_certificate_expiry_timestamp_seconds",
        _G,
        "When the certificate in use ends; absent without TLS",
    ),
)

# The router: what clients see.
ROUTER_TABLE: tuple[MetricSpec, ...] = (
    MetricSpec(
        "vllm:request_success_total",
        _C,
        "Requests that ended",
        ("finished_reason",),
        values=(("stop", "length", "abort", "error"),),
    ),
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
    MetricSpec("vllm:request_params_n", _H, "Choices asked for", (), CHOICE_BUCKETS),
    MetricSpec("vllm:request_params_max_tokens", _H, "Output allowed", (), TOKEN_BUCKETS),
    MetricSpec(
        "vllm:admission_rejections_total",
        _C,
        "Requests refused with 429 for what is in flight already",
        ("reason",),
        values=(("requests", "prompt_tokens"),),
    ),
    MetricSpec("baton_router_requests_total", _C, "HTTP requests", ("endpoint", "status")),
    MetricSpec("baton_router_requests_inflight", _G, "Requests being served"),
    MetricSpec(
        "baton_router_decisions_total",
        _C,
        "Routing decisions, by where the prompt is computed and why there",
        ("reason",),
        values=(
            (
                *("remote", "short", "cached", "no_prefill"),
                *("layout", "prompt_logprobs", "prefill_saturated", "local_faster", "probe"),
            ),
        ),
    ),
    MetricSpec(
        "baton_router_resubmissions_total",
        _C,
        "Moves of a request to another decode worker, by the error that ended the try before",
        ("reason",),
        values=(("unavailable", "overloaded", "draining", "worker_failed"),),
    ),
    MetricSpec("baton_router_workers_ready", _G, "Workers that take requests", ("role",)),
    MetricSpec("baton_router_requests_held", _G, "Requests held for want of a decode worker"),
    MetricSpec(
        "baton_router_queue_seconds",
        _H,
        "From a request's dispatch to the worker it is given",
        (),
        TTFT_BUCKETS_S,
    ),
    MetricSpec(
        "baton_router_refusals_total",
        _C,
        "Requests not served: no valid key (401), a limit was met, or the first token would come"
        " later than asked for (429), no decode worker came in time, or the router is going (503)",
        ("reason",),
        values=(
            ("key", "requests", "prompt_tokens", "tenant_requests", "slo", "no_worker", "draining"),
        ),
    ),
    MetricSpec(
        "baton_router_disconnects_total",
        _C,
        "Clients that hung up, before or after their first token",
        ("phase",),
        values=(("waiting", "answering"),),
    ),
    MetricSpec(
        "baton_router_workers_refused_total",
        _C,
        "Workers that cannot serve here: another model's, or of the wrong role",
        ("reason",),
        values=(("role", "model"),),
    ),
    MetricSpec(
        "baton_router_slo_requests_total",
        _C,
        "Outputs with a latency to judge, by target: ttft at the first token, itl at the end",
        ("slo", "attained"),
        values=(("ttft", "itl"), ("true", "false")),
    ),
    MetricSpec("baton_router_slo_target_seconds", _G, "The latency that is promised", ("slo",)),
    MetricSpec(
        "baton_router_tenant_requests_total",
        _C,
        "Admitted requests that ended, where there are API keys",
        ("tenant",),
    ),
    MetricSpec(
        "baton_router_tenant_prompt_tokens_total",
        _C,
        "Prompt tokens of those requests",
        ("tenant",),
    ),
    MetricSpec(
        "baton_router_tenant_output_tokens_total",
        _C,
        "Tokens generated for those requests",
        ("tenant",),
    ),
    MetricSpec(
        "baton_router_tenant_requests_waiting",
        _G,
        "Requests that wait in the router for their tenant's turn",
        ("tenant",),
    ),
    MetricSpec(
        "baton_router_tenant_turn_seconds",
        _H,
        "The wait for a turn; a request of n choices has n",
        ("tenant",),
        TURN_BUCKETS_S,
    ),
)

# Prefill and decode workers.
WORKER_TABLE: tuple[MetricSpec, ...] = (
    MetricSpec("vllm:num_requests_running", _G, "Requests in the running batch"),
    MetricSpec("vllm:num_requests_waiting", _G, "Requests waiting for blocks or budget"),
    MetricSpec(
        "vllm:num_requests_waiting_by_reason",
        _G,
        "capacity: waiting for blocks or budget; deferred: waiting for KV from prefill",
        ("reason",),
        values=(("capacity", "deferred"),),
    ),
    MetricSpec("vllm:kv_cache_usage_perc", _G, "Share of KV blocks in use, 0 to 1"),
    MetricSpec(
        "vllm:cache_config_info",
        _G,
        "Always 1; the labels say what the KV cache is",
        ("block_size", "num_gpu_blocks", "cache_dtype"),
    ),
    MetricSpec("vllm:prefix_cache_queries_total", _C, "Prompt tokens looked up"),
    MetricSpec("vllm:prefix_cache_hits_total", _C, "Prompt tokens found"),
    MetricSpec("vllm:num_preemptions_total", _C, "Requests preempted for lack of blocks"),
    MetricSpec(
        "vllm:iteration_tokens_total", _H, "Tokens computed in a step", (), STEP_TOKEN_BUCKETS
    ),
    MetricSpec("vllm:request_queue_time_seconds", _H, "Submit to admission", (), LATENCY_BUCKETS_S),
    MetricSpec(
        "vllm:request_prefill_time_seconds",
        _H,
        "Admission to first token; on decode workers with the hand-off in it",
        (),
        LATENCY_BUCKETS_S,
    ),
    MetricSpec(
        "vllm:request_decode_time_seconds", _H, "First to last token", (), LATENCY_BUCKETS_S
    ),
    MetricSpec(
        "vllm:request_inference_time_seconds", _H, "Admission to last token", (), LATENCY_BUCKETS_S
    ),
    MetricSpec("vllm:spec_decode_num_draft_tokens_total", _C, "Tokens guessed by speculation"),
    MetricSpec("vllm:spec_decode_num_accepted_tokens_total", _C, "Guesses that were right"),
    MetricSpec("baton_engine_steps_total", _C, "Engine steps"),
    MetricSpec("baton_engine_step_seconds", _H, "Duration of a step", (), ITL_BUCKETS_S),
    MetricSpec("baton_cost_model_error_ratio", _G, "Mean error of predicted step durations"),
    MetricSpec("baton_cost_model_seconds", _G, "Cost of a step, per unit of a term", ("term",)),
    MetricSpec(
        "baton_handoff_bytes_total",
        _C,
        "KV bytes moved",
        ("direction",),
        values=(("sent", "received"),),
    ),
    MetricSpec("baton_handoff_inflight", _G, "Hand-offs under way"),
)

# Decode workers, who ask for hand-offs.
DECODE_TABLE: tuple[MetricSpec, ...] = (
    MetricSpec(
        "baton_handoff_total",
        _C,
        "Hand-offs ended",
        ("outcome",),
        values=(
            (
                *("complete", "refused", "layout_mismatch", "corrupt"),
                *("stalled", "failed", "cancelled"),
            ),
        ),
    ),
    MetricSpec("baton_handoff_seconds", _H, "Call to first token", (), TTFT_BUCKETS_S),
    MetricSpec(
        "baton_decode_prefill_total",
        _C,
        "Prompts, by where they were computed and why not elsewhere",
        ("path",),
        values=(
            (
                *("remote", "local:no_prefill", "local:short", "local:cached"),
                *("local:prompt_logprobs", "local:prefill_failed"),
            ),
        ),
    ),
)

METRICS = (*PROCESS_TABLE, *ROUTER_TABLE, *WORKER_TABLE, *DECODE_TABLE)
