"""The router: what it admits, what it decides, what it has to try again."""

from baton_loadtest.observability.board import Board, Row
from baton_loadtest.observability.panels import (
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


def router_board() -> Board:
    return Board(
        "router",
        "Baton / Router",
        "What the routers admit and refuse, where they send it, and how well it went.",
        (_admission(), _decisions(), _tenants(), _objectives(), _shape()),
    )


def _admission() -> Row:
    return Row(
        "Admission",
        (
            chart(
                "Requests by endpoint",
                "HTTP requests per second, probes and scrapes included.",
                REQUESTS_PER_S,
                Series(
                    rate("baton_router_requests_total", CHOSEN, by=["endpoint", "status"]),
                    "{{endpoint}} {{status}}",
                ),
            ),
            chart(
                "In flight",
                "Requests being served by each router; how even they are is how well they spread.",
                COUNT,
                Series(select("baton_router_requests_inflight", CHOSEN), "{{pod}}"),
            ),
            chart(
                "Refused",
                "requests, prompt_tokens, tenant_requests: answered with 429 at that limit; "
                "no_worker: with 503; key: with 401.",
                REQUESTS_PER_S,
                Series(rate("baton_router_refusals_total", CHOSEN, by=["reason"]), "{{reason}}"),
            ),
            chart(
                "Clients that hung up",
                "While they waited for the first token, or later.",
                REQUESTS_PER_S,
                Series(rate("baton_router_disconnects_total", CHOSEN, by=["phase"]), "{{phase}}"),
            ),
            chart(
                "Held",
                "Requests that wait because no decode worker is ready: scaling from zero, or an "
                "outage.",
                COUNT,
                Series(select("baton_router_requests_held", CHOSEN), "{{pod}}"),
            ),
            chart(
                "Wait for a decode worker",
                "From a request's dispatch to the worker it is given; more than nothing is a wait.",
                SECONDS,
                *quantiles("baton_router_queue_seconds", CHOSEN),
            ),
        ),
    )


def _decisions() -> Row:
    return Row(
        "Decisions",
        (
            chart(
                "Decisions by reason",
                "Where the prompt is to be computed, and why there.",
                REQUESTS_PER_S,
                Series(rate("baton_router_decisions_total", CHOSEN, by=["reason"]), "{{reason}}"),
                stacked=True,
            ),
            chart(
                "Moved to another worker",
                "Requests that went on elsewhere, by the error that ended the try before; the "
                "client notices a pause.",
                REQUESTS_PER_S,
                Series(
                    rate("baton_router_resubmissions_total", CHOSEN, by=["reason"]), "{{reason}}"
                ),
            ),
            chart(
                "Workers each router sees",
                "Routers that differ for long do not hear the same workers.",
                COUNT,
                Series(select("baton_router_workers_ready", CHOSEN), "{{pod}} {{role}}"),
            ),
        ),
    )


def _tenants() -> Row:
    """Empty where no API keys are asked for."""
    prefix = "baton_router_tenant"
    return Row(
        "Tenants",
        (
            *(
                chart(
                    title,
                    f"{what} per second, added up over routers; empty without API keys.",
                    unit,
                    Series(rate(f"{prefix}_{counted}_total", CHOSEN, by=["tenant"]), "{{tenant}}"),
                    stacked=True,
                )
                for title, what, unit, counted in (
                    ("Requests by tenant", "Requests that ended", REQUESTS_PER_S, "requests"),
                    ("Prompt tokens by tenant", "Prompt tokens", PER_S, "prompt_tokens"),
                    ("Output tokens by tenant", "Tokens generated", PER_S, "output_tokens"),
                )
            ),
            chart(
                "Waiting by tenant",
                "Requests that wait in the routers for their tenant's turn.",
                COUNT,
                Series(
                    sum_by(select(f"{prefix}_requests_waiting", CHOSEN), ["tenant"]), "{{tenant}}"
                ),
                stacked=True,
            ),
            chart(
                "Wait for a turn by tenant",
                "95th percentile; who waits longer than others asks for more than its share.",
                SECONDS,
                *quantiles(f"{prefix}_turn_seconds", CHOSEN, by=["tenant"], shares=(0.95,)),
            ),
        ),
    )


def _objectives() -> Row:
    name = "baton_router_slo_requests_total"
    kept = rate(name, CHOSEN, 'attained="true"', by=["slo"])
    judged = rate(name, CHOSEN, by=["slo"])
    return Row(
        "Objectives",
        (
            chart(
                "Kept",
                "Share of requests within the ModelService's targets.",
                RATIO,
                Series(ratio(kept, judged), "{{slo}}"),
            ),
            chart(
                "Targets",
                "What is promised; no line: the ModelService gives no such target.",
                SECONDS,
                Series(
                    "max by (namespace, service, slo)"
                    f" ({select('baton_router_slo_target_seconds', CHOSEN)})",
                    "{{service}} {{slo}}",
                ),
            ),
            chart(
                "Time to first token by router",
                "95th percentile per router; one that differs has other workers or no CPU.",
                SECONDS,
                *quantiles("vllm:time_to_first_token_seconds", CHOSEN, by=["pod"], shares=(0.95,)),
            ),
        ),
    )


def _shape() -> Row:
    return Row(
        "What is asked",
        (
            chart(
                "Prompt length",
                "Tokens of a prompt.",
                COUNT,
                *quantiles("vllm:request_prompt_tokens", CHOSEN),
            ),
            chart(
                "Output length",
                "Tokens of an answer.",
                COUNT,
                *quantiles("vllm:request_generation_tokens", CHOSEN),
            ),
            chart(
                "Asked for",
                "Output tokens allowed, and choices per prompt: 95th percentile.",
                COUNT,
                *(
                    Series(one.query, f"{what} {one.legend}")
                    for what, name in (
                        ("max_tokens", "vllm:request_params_max_tokens"),
                        ("n", "vllm:request_params_n"),
                    )
                    for one in quantiles(name, CHOSEN, shares=(0.95,))
                ),
            ),
            chart(
                "Router CPU",
                "Cores in use per router process; a router is one process and cannot use more than "
                "a few.",
                COUNT,
                Series(
                    rate("process_cpu_seconds_total", CHOSEN, 'role="router"', by=["pod"]),
                    "{{pod}}",
                ),
            ),
        ),
    )
