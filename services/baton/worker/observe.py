"""The engine's metrics, from its turns. Knows metric names; decides nothing."""

from baton.common.metrics import Metrics
from baton.handoff.layout import KvLayout
from baton.worker.turns import Turn

GAUGES_AND_COUNTERS = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "vllm:num_preemptions_total",
    "vllm:spec_decode_num_draft_tokens_total",
    "vllm:spec_decode_num_accepted_tokens_total",
    "baton_engine_steps_total",
    "baton_engine_step_seconds",
    "baton_handoff_bytes_total",
    "baton_handoff_inflight",
    "vllm:iteration_tokens_total",
    "vllm:num_requests_waiting_by_reason",
)


class EngineMetrics:
    def __init__(self, metrics: Metrics, layout: KvLayout, *, block_count: int) -> None:
        self._metrics = metrics
        self._block_count = block_count
        self._counted = {
            "steps": 0,
            "preemptions": 0,
            "queried": 0,
            "found": 0,
            "guessed": 0,
            "accepted": 0,
        }
        metrics.declare(GAUGES_AND_COUNTERS)
        metrics.gauge(
            "vllm:cache_config_info",
            1,
            block_size=str(layout.block_size),
            num_gpu_blocks=str(block_count),
            cache_dtype=layout.dtype,
        )

    def observe(self, turn: Turn) -> None:
        load, metrics = turn.report.load, self._metrics
        metrics.gauge("vllm:num_requests_running", load.running)
        metrics.gauge("vllm:num_requests_waiting", load.waiting)
        by_reason = "vllm:num_requests_waiting_by_reason"
        metrics.gauge(by_reason, load.waiting, reason="capacity")
        metrics.gauge(by_reason, load.awaiting_kv, reason="deferred")
        metrics.gauge("vllm:kv_cache_usage_perc", load.blocks_used / self._block_count)
        if load.step > self._counted["steps"]:
            metrics.observe("baton_engine_step_seconds", turn.duration_s)
        if (shape := turn.report.shape) is not None:
            tokens = shape.prefill_tokens + shape.decode_rows
            metrics.observe("vllm:iteration_tokens_total", tokens)
        self._count("baton_engine_steps_total", "steps", load.step)
        self._count("vllm:num_preemptions_total", "preemptions", load.preemptions)
        self._count("vllm:prefix_cache_queries_total", "queried", load.prefix_tokens_queried)
        self._count("vllm:prefix_cache_hits_total", "found", load.prefix_tokens_found)
        self._count("vllm:spec_decode_num_draft_tokens_total", "guessed", load.guesses_made)
        accepted = load.guesses_accepted
        self._count("vllm:spec_decode_num_accepted_tokens_total", "accepted", accepted)

    def _count(self, name: str, key: str, total: int) -> None:
        """The engine counts since its start; a counter takes increments."""
        self._metrics.count(name, total - self._counted[key])
        self._counted[key] = total
