"""The operator: whether it leads, reconciles and keeps up; and what the scaling law decided."""

from baton_loadtest.observability.board import Board, Row
from baton_loadtest.observability.panels import (
    BYTES,
    COUNT,
    PER_S,
    SECONDS,
    Series,
    chart,
    number,
    quantiles,
)
from baton_loadtest.observability.queries import CHOSEN, increase, rate, select

_REPLICAS = "baton_operator_replicas"
_OPERATOR = "leader_election_master_status"
"""Only the operator has it: joined with, it picks the operator's own process metrics."""


def operator_board() -> Board:
    return Board(
        "operator",
        "Baton / Operator and scaling",
        "Whether the operator leads and keeps up, and how many pods it wants, and why.",
        (_scaling(), _reconcile(), _process()),
    )


def _scaling() -> Row:
    pods = select(_REPLICAS, CHOSEN, 'kind=~"desired|ready"')
    return Row(
        "Scaling",
        (
            chart(
                "Pods desired and ready",
                "What was last decided, or stands in the spec, and the pods that are ready.",
                COUNT,
                Series(
                    f"max by (namespace, service, role, kind) ({pods})",
                    "{{service}} {{role}} {{kind}}",
                ),
                width=12,
            ),
            chart(
                "Decisions by reason",
                "Each look at a role of any ModelService counts. Signals...: nothing is scaled.",
                PER_S,
                Series(
                    rate("baton_operator_scaling_decisions_total", by=["role", "reason"]),
                    "{{role}} {{reason}}",
                ),
                width=12,
            ),
            chart(
                "Changes",
                "Decisions that changed the number of pods, in the last hour.",
                COUNT,
                Series(
                    increase(
                        "baton_operator_scaling_changes_total",
                        CHOSEN,
                        by=["role", "direction", "reason"],
                        window="1h",
                    ),
                    "{{role}} {{direction}}: {{reason}}",
                ),
            ),
            chart(
                "Age of signals",
                "Of the oldest router's, when the last decision was made; above 30 s nothing is "
                "scaled.",
                SECONDS,
                Series(select("baton_operator_signals_age_seconds", CHOSEN), "{{service}}"),
            ),
            chart(
                "Silent routers",
                "Routers that did not tell their signals for the last decision.",
                COUNT,
                Series(select("baton_operator_routers_silent", CHOSEN), "{{service}}"),
            ),
            chart(
                "ModelServices ready",
                "1 while every role is ready; the ModelService's conditions say why not.",
                COUNT,
                Series(select("baton_operator_service_ready", CHOSEN), "{{service}}"),
            ),
        ),
    )


def _reconcile() -> Row:
    return Row(
        "Reconciling",
        (
            number(
                "Leaders",
                "Operators that lead. One is right; none: nobody changes anything.",
                COUNT,
                f"sum({_OPERATOR})",
                width=4,
            ),
            number(
                "Waiting",
                "ModelServices that wait to be looked at.",
                COUNT,
                "sum(workqueue_depth)",
                width=4,
            ),
            chart(
                "Reconciles",
                "Looks at a ModelService per second, by how they ended.",
                PER_S,
                Series(
                    rate("controller_runtime_reconcile_total", by=["controller", "result"]),
                    "{{controller}} {{result}}",
                ),
            ),
            chart(
                "Errors",
                "Reconciles per second that failed and are tried again.",
                PER_S,
                Series(
                    rate("controller_runtime_reconcile_errors_total", by=["controller"]),
                    "{{controller}}",
                ),
            ),
            chart(
                "Duration",
                "Of one reconcile.",
                SECONDS,
                *quantiles("controller_runtime_reconcile_time_seconds"),
            ),
            chart(
                "Calls to the API server",
                "By answer; 0 is a call that had none. Watches are not counted.",
                PER_S,
                Series(
                    rate("rest_client_requests_total", by=["method", "code"]), "{{method}} {{code}}"
                ),
            ),
            chart(
                "Wait in the queue",
                "From a change to the beginning of its reconcile.",
                SECONDS,
                *quantiles("workqueue_queue_duration_seconds"),
            ),
        ),
    )


def _process() -> Row:
    return Row(
        "Process",
        (
            chart(
                "CPU",
                "Cores in use per operator.",
                COUNT,
                Series(
                    f"rate(process_cpu_seconds_total[$__rate_interval])"
                    f" and on (namespace, pod) {_OPERATOR}",
                    "{{pod}}",
                ),
            ),
            chart(
                "Memory",
                "Resident memory per operator.",
                BYTES,
                Series(
                    f"process_resident_memory_bytes and on (namespace, pod) {_OPERATOR}",
                    "{{pod}}",
                ),
            ),
        ),
    )
