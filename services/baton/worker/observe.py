"""The engine's metrics, from its turns. Knows metric names; decides nothing."""

from baton.common.metrics import Metrics
from baton.engine.messages import EngineLoad
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
    """Steps are observed as they come, the rest is reported when somebody reads it: a dozen series
    per step would cost more than all else that the event loop does with a step."""

    def __init__(self, metrics: Metrics, layout: KvLayout, *, block_count: int) -> None:
        self._metrics = metrics
        self._block_count = block_count
        self._load = self._counted = EngineLoad(0, 0, 0, 0, 0)
        metrics.declare(GAUGES_AND_COUNTERS)
        metrics.gauge(
            "vllm:cache_config_info",
            1,
            block_size=str(layout.block_size),
            num_gpu_blocks=str(block_count),
            cache_dtype=layout.dtype,
        )
        self._observe_step = metrics.observing("baton_engine_step_seconds")
        self._observe_tokens = metrics.observing("vllm:iteration_tokens_total")
        metrics.before_reading(self._report)

    def observe(self, turn: Turn) -> None:
        load = turn.report.load
        if load.step > self._load.step:
            self._observe_step(turn.duration_s)
        if (shape := turn.report.shape) is not None:
            self._observe_tokens(shape.prefill_tokens + shape.decode_rows)
        self._load = load

    def _report(self) -> None:
        """On whichever thread reads. The engine counts since its start; a counter takes
        increments."""
        load, last, metrics = self._load, self._counted, self._metrics
        self._counted = load
        metrics.gauge("vllm:num_requests_running", load.running)
        metrics.gauge("vllm:num_requests_waiting", load.waiting)
        by_reason = "vllm:num_requests_waiting_by_reason"
        metrics.gauge(by_reason, load.waiting, reason="capacity")
        metrics.gauge(by_reason, load.awaiting_kv, reason="deferred")
        metrics.gauge("vllm:kv_cache_usage_perc", load.blocks_used / self._block_count)
        metrics.count("baton_engine_steps_total", load.step - last.step)
        metrics.count("vllm:num_preemptions_total", load.preemptions - last.preemptions)
        queried = load.prefix_tokens_queried - last.prefix_tokens_queried
        metrics.count("vllm:prefix_cache_queries_total", queried)
        found = load.prefix_tokens_found - last.prefix_tokens_found
        metrics.count("vllm:prefix_cache_hits_total", found)
        guessed = load.guesses_made - last.guesses_made
        metrics.count("vllm:spec_decode_num_draft_tokens_total", guessed)
        accepted = load.guesses_accepted - last.guesses_accepted
        metrics.count("vllm:spec_decode_num_accepted_tokens_total", accepted)
