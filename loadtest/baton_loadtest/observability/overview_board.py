"""The first board to look at: are the promises kept, what comes in, who serves it."""

from baton_loadtest.observability.board import Board, Row
from baton_loadtest.observability.panels import (
    COUNT,
    PER_S,
    RATIO,
    REQUESTS_PER_S,
    SECONDS,
    Series,
    chart,
    number,
    quantiles,
)
from baton_loadtest.observability.queries import CHOSEN, increase, rate, ratio, select, sum_by

_ENDED = "vllm:request_success_total"
_READY = "baton_router_workers_ready"


def overview_board() -> Board:
    return Board(
        "overview",
        "Baton / Overview",
        "Whether Baton keeps its promises, what it is asked for, and who serves it.",
        (_promises(), _traffic(), _latency(), _workers()),
    )


def _promises() -> Row:
    failed = increase(_ENDED, CHOSEN, 'finished_reason="error"', window="$__range")
    ended = increase(_ENDED, CHOSEN, 'finished_reason!="abort"', window="$__range")
    return Row(
        "Promises, over the chosen time",
        (
            number(
                "Success",
                "Share of requests that ended without an error of ours; clients that hung up do "
                "not count.",
                RATIO,
                f"1 - {ratio(failed, ended)}",
            ),
            *(
                number(
                    f"{slo.upper()} kept",
                    f"Share of requests whose {meaning} was within the ModelService's target.",
                    RATIO,
                    _kept(slo),
                )
                for slo, meaning in (
                    ("ttft", "time to first token"),
                    ("itl", "mean time between tokens"),
                )
            ),
            number(
                "Requests held",
                "Requests that wait in a router because no decode worker is ready.",
                COUNT,
                sum_by(select("baton_router_requests_held", CHOSEN)),
            ),
            *(
                number(
                    f"{role.capitalize()} workers ready",
                    f"{role.capitalize()} workers that take requests, as the routers see them.",
                    COUNT,
                    f"sum(max by (namespace, service) ({_ready(role)}))",
                )
                for role in ("prefill", "decode")
            ),
        ),
    )


def _kept(slo: str) -> str:
    judged, labels = "baton_router_slo_requests_total", (CHOSEN, f'slo="{slo}"')
    kept = increase(judged, *labels, 'attained="true"', window="$__range")
    return ratio(kept, increase(judged, *labels, window="$__range"))


def _ready(role: str) -> str:
    return select(_READY, CHOSEN, f'role="{role}"')


def _traffic() -> Row:
    return Row(
        "Traffic",
        (
            chart(
                "Requests by status",
                "HTTP requests per second; 499 is a client that hung up before the answer began.",
                REQUESTS_PER_S,
                Series(
                    rate(
                        "baton_router_requests_total", CHOSEN, 'endpoint=~"/v1/.*"', by=["status"]
                    ),
                    "{{status}}",
                ),
                stacked=True,
            ),
            chart(
                "Tokens",
                "Prompt tokens accepted and tokens generated, per second.",
                PER_S,
                Series(rate("vllm:prompt_tokens_total", CHOSEN), "prompt"),
                Series(rate("vllm:generation_tokens_total", CHOSEN), "generated"),
            ),
            chart(
                "How requests end",
                "stop and length are answers; abort is a client that hung up; error is ours.",
                REQUESTS_PER_S,
                Series(rate(_ENDED, CHOSEN, by=["finished_reason"]), "{{finished_reason}}"),
                stacked=True,
            ),
        ),
    )


def _latency() -> Row:
    return Row(
        "Latency",
        (
            chart(
                "Time to first token",
                "From the arrival of a request to its first token, as the router measures it.",
                SECONDS,
                *quantiles("vllm:time_to_first_token_seconds", CHOSEN),
            ),
            chart(
                "Inter-token latency",
                "Between two tokens of one answer, as the router measures it.",
                SECONDS,
                *quantiles("vllm:inter_token_latency_seconds", CHOSEN),
            ),
            chart(
                "Whole request",
                "From the arrival of a request to its last token.",
                SECONDS,
                *quantiles("vllm:e2e_request_latency_seconds", CHOSEN),
            ),
        ),
    )


def _workers() -> Row:
    return Row(
        "Workers",
        (
            chart(
                "Ready workers",
                "Workers that take requests, as the routers see them.",
                COUNT,
                Series(
                    f"sum by (role) (max by (namespace, service, role) ({select(_READY, CHOSEN)}))",
                    "{{role}}",
                ),
            ),
            chart(
                "Requests in workers",
                "In the running batch, and waiting for blocks, budget or KV.",
                COUNT,
                Series(
                    sum_by(select("vllm:num_requests_running", CHOSEN), ["role"]),
                    "{{role}} running",
                ),
                Series(
                    sum_by(
                        select("vllm:num_requests_waiting_by_reason", CHOSEN), ["role", "reason"]
                    ),
                    "{{role}} {{reason}}",
                ),
            ),
            chart(
                "KV cache in use",
                "Mean share of KV blocks in use per role; near 1 requests wait or are preempted.",
                RATIO,
                Series(f"avg by (role) ({select('vllm:kv_cache_usage_perc', CHOSEN)})", "{{role}}"),
            ),
            chart(
                "Processes by version",
                "Two versions at once are a rolling upgrade.",
                COUNT,
                Series(
                    f"count by (role, version) ({select('baton_build_info', CHOSEN)})",
                    "{{role}} {{version}}",
                ),
            ),
            chart(
                "Draining",
                "Processes that finish their requests and take no new ones.",
                COUNT,
                Series(sum_by(select("baton_draining", CHOSEN), ["role"]), "{{role}}"),
            ),
            chart(
                "Youngest process",
                "Seconds since the last start in each role; a saw is a crash loop.",
                SECONDS,
                Series(
                    f"time() - max by (role) ({select('process_start_time_seconds', CHOSEN)})",
                    "{{role}}",
                ),
            ),
        ),
    )
