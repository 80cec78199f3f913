"""Prefill, hand-off and decode, in the order in which a request goes through them."""

from baton_loadtest.observability.board import Board, Row
from baton_loadtest.observability.panels import (
    BYTES,
    BYTES_PER_S,
    COUNT,
    PER_S,
    RATIO,
    REQUESTS_PER_S,
    SECONDS,
    Series,
    chart,
    quantiles,
)
from baton_loadtest.observability.queries import CHOSEN, rate, ratio, select, sum_by

_TAIL = (0.5, 0.95)


def handoff_board() -> Board:
    return Board(
        "handoff",
        "Baton / Prefill, hand-off, decode",
        "Where prompts are computed, how their KV moves, and what the engines do.",
        (_prompts(), _handoff(), _decode(), _engine(), _processes()),
    )


def _prompts() -> Row:
    found = rate("vllm:prefix_cache_hits_total", CHOSEN, by=["role"])
    asked = rate("vllm:prefix_cache_queries_total", CHOSEN, by=["role"])
    return Row(
        "Prompts",
        (
            chart(
                "Where prompts are computed",
                "remote: by a prefill worker; local: by decode itself, and why.",
                REQUESTS_PER_S,
                Series(rate("baton_decode_prefill_total", CHOSEN, by=["path"]), "{{path}}"),
                stacked=True,
            ),
            chart(
                "Wait for admission",
                "From the submit at a worker until the engine gives the request blocks. High on "
                "prefill: more prefill workers; high on decode: KV is short.",
                SECONDS,
                *quantiles("vllm:request_queue_time_seconds", CHOSEN, by=["role"], shares=_TAIL),
            ),
            chart(
                "Prefill",
                "From admission to the first token; on decode workers the hand-off is in it.",
                SECONDS,
                *quantiles("vllm:request_prefill_time_seconds", CHOSEN, by=["role"], shares=_TAIL),
            ),
            chart(
                "Prefix cache",
                "Share of prompt tokens that a worker had in its cache already.",
                RATIO,
                Series(ratio(found, asked), "{{role}}"),
            ),
        ),
    )


def _handoff() -> Row:
    ended = rate("baton_handoff_total", CHOSEN, 'outcome!="cancelled"')
    failed = rate("baton_handoff_total", CHOSEN, 'outcome!~"complete|cancelled"')
    return Row(
        "Hand-off",
        (
            chart(
                "Outcomes",
                "Hand-offs that ended, by how. After a failed one decode asks the next prefill "
                "worker, then computes the rest itself: no request fails for it.",
                REQUESTS_PER_S,
                Series(rate("baton_handoff_total", CHOSEN, by=["outcome"]), "{{outcome}}"),
                stacked=True,
            ),
            chart(
                "Failures",
                "Share of hand-offs that brought no first token; cancelled requests not counted.",
                RATIO,
                Series(ratio(failed, ended), "failed"),
            ),
            chart(
                "Duration",
                "From decode's call to the first token: prefill's queue, its computing, the way.",
                SECONDS,
                *quantiles("baton_handoff_seconds", CHOSEN),
            ),
            chart(
                "KV moved",
                "Payload bytes per second; what is sent and not received was refused or damaged.",
                BYTES_PER_S,
                Series(
                    rate("baton_handoff_bytes_total", CHOSEN, by=["direction"]), "{{direction}}"
                ),
            ),
            chart(
                "Under way",
                "Hand-offs now, on both of their sides.",
                COUNT,
                Series(sum_by(select("baton_handoff_inflight", CHOSEN), ["role"]), "{{role}}"),
            ),
        ),
    )


def _decode() -> Row:
    guessed = rate("vllm:spec_decode_num_draft_tokens_total", CHOSEN)
    return Row(
        "Decode",
        (
            chart(
                "Decode",
                "From a request's first to its last token, in the decode worker.",
                SECONDS,
                *quantiles("vllm:request_decode_time_seconds", CHOSEN),
            ),
            chart(
                "Running batch",
                "Requests in the batch of each worker.",
                COUNT,
                Series(select("vllm:num_requests_running", CHOSEN), "{{pod}}"),
            ),
            chart(
                "KV cache in use",
                "Share of each worker's KV blocks in use.",
                RATIO,
                Series(select("vllm:kv_cache_usage_perc", CHOSEN), "{{pod}}"),
            ),
            chart(
                "Preemptions",
                "Requests sent back to the queue because a running one needed a block.",
                PER_S,
                Series(rate("vllm:num_preemptions_total", CHOSEN, by=["role"]), "{{role}}"),
            ),
            chart(
                "Speculation",
                "Tokens guessed, and those of them that were right; zero where it is off.",
                PER_S,
                Series(guessed, "guessed"),
                Series(rate("vllm:spec_decode_num_accepted_tokens_total", CHOSEN), "right"),
            ),
        ),
    )


def _engine() -> Row:
    return Row(
        "Engine and cost model",
        (
            chart(
                "Step",
                "Duration of an engine step; on decode a step is the floor of inter-token latency.",
                SECONDS,
                *quantiles("baton_engine_step_seconds", CHOSEN, by=["role"], shares=_TAIL),
            ),
            chart(
                "Tokens per step",
                "Prompt and output tokens that a step computed.",
                COUNT,
                *quantiles("vllm:iteration_tokens_total", CHOSEN, by=["role"], shares=_TAIL),
            ),
            chart(
                "Steps",
                "Engine steps per second of all workers of a role.",
                PER_S,
                Series(rate("baton_engine_steps_total", CHOSEN, by=["role"]), "{{role}}"),
            ),
            chart(
                "Cost model error",
                "Mean relative error of predicted step durations; scaling rests on them.",
                RATIO,
                Series(select("baton_cost_model_error_ratio", CHOSEN), "{{pod}}"),
            ),
            chart(
                "Cost model terms",
                "Seconds per unit of each term, mean over the workers of a role.",
                SECONDS,
                Series(
                    f"avg by (role, term) ({select('baton_cost_model_seconds', CHOSEN)})",
                    "{{role}} {{term}}",
                ),
            ),
        ),
    )


def _processes() -> Row:
    return Row(
        "Processes",
        (
            chart(
                "CPU",
                "Cores in use per pod.",
                COUNT,
                Series(rate("process_cpu_seconds_total", CHOSEN, by=["pod"]), "{{pod}}"),
            ),
            chart(
                "Memory",
                "Resident memory per pod.",
                BYTES,
                Series(select("process_resident_memory_bytes", CHOSEN), "{{pod}}"),
            ),
        ),
    )
