"""Every alert: when it fires and what it says. Pure.

Knows metrics and thresholds; docs/operations.md has a heading per alert, which tests compare.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from baton_loadtest.observability.queries import SERVICE_LABELS, rate, ratio
from baton_loadtest.observability.recording import error_ratio, miss_ratio

RUNBOOKS = "docs/operations.md"

AVAILABILITY_BUDGET = 0.001
"""Of requests that may fail: 99.9 percent are promised."""

LATENCY_BUDGET = 0.05
"""Of requests that may miss a target: `spec.slo.percentile` is 95 unless it is set."""

CERTIFICATE_LEFT_S = 7 * 24 * 3600
"""The operator renews long before; a week is time for a person to find out why it did not."""

KV_SHORT = 0.8
"""Of the blocks. A request is let in only where its prompt, and a block more for each running one,
have room: while requests wait the cache is nearly full on average, and never full for long."""


class Severity(Enum):
    CRITICAL = "critical"  # somebody looks now
    WARNING = "warning"  # somebody looks today


@dataclass(frozen=True, slots=True)
class Alert:
    name: str
    severity: Severity
    expr: str
    pending: str  # how long the expression must hold, such as "5m"
    summary: str
    description: str

    @property
    def runbook(self) -> str:
        """Its heading in the operations guide; the two paces of a burn share one."""
        return f"{RUNBOOKS}#{self.heading.lower()}"

    @property
    def heading(self) -> str:
        return self.name.removesuffix("Fast").removesuffix("Slow")


@dataclass(frozen=True, slots=True)
class _Pace:
    """How fast a 30-day budget is spent: 2 percent of it in 1 h, or 5 percent in 6 h. The short
    window ends the alert soon after the trouble has ended."""

    name: str
    severity: Severity
    factor: float  # times the rate that spends the budget in exactly 30 days
    long: str
    short: str
    pending: str

    def expr(self, ratio_of: Callable[[str], str], budget: float) -> str:
        limit = f"{self.factor * budget:g}"
        return f"{ratio_of(self.long)} > {limit} and {ratio_of(self.short)} > {limit}"


_PACES = (
    _Pace("Fast", Severity.CRITICAL, 14.4, "1h", "5m", "2m"),
    _Pace("Slow", Severity.WARNING, 6.0, "6h", "30m", "15m"),
)

_OF = "{{ $labels.namespace }}/{{ $labels.service }}"
_POD = "{{ $labels.namespace }}/{{ $labels.pod }}"
_SHARE = "{{ $value | humanizePercentage }}"
_VALUE = "{{ $value | humanize }}"
_LABELS = ", ".join(SERVICE_LABELS)


def alerts() -> tuple[Alert, ...]:
    return (*_promises(), *_workers(), *_engine(), *_control())


def _promises() -> tuple[Alert, ...]:
    found = []
    for pace in _PACES:
        found.append(
            Alert(
                f"BatonErrorBudgetBurn{pace.name}",
                pace.severity,
                pace.expr(error_ratio, AVAILABILITY_BUDGET),
                pace.pending,
                f"{_OF} fails requests",
                f"{_SHARE} of requests failed in the last {pace.long}: {pace.factor:g} times what"
                " a promise of 99.9 percent allows, or more.",
            )
        )
        for slo, what in (("ttft", "time to first token"), ("itl", "inter-token latency")):

            def missed(window: str, slo: str = slo) -> str:
                return f'{miss_ratio(window)}{{slo="{slo}"}}'

            found.append(
                Alert(
                    f"Baton{slo.capitalize()}BudgetBurn{pace.name}",
                    pace.severity,
                    pace.expr(missed, LATENCY_BUDGET),
                    pace.pending,
                    f"{_OF} misses its target for {what}",
                    f"{_SHARE} of requests missed the target in the last {pace.long}; 5 percent"
                    " may.",
                )
            )
    return tuple(found)


def _ready(role: str) -> str:
    return f'max by ({_LABELS}) (baton_router_workers_ready{{role="{role}"}})'


def _wanted(role: str) -> str:
    return f'max by ({_LABELS}) (baton_operator_replicas{{role="{role}",kind="desired"}})'


def _workers() -> tuple[Alert, ...]:
    on = f"on ({_LABELS})"
    return (
        Alert(
            "BatonNoDecodeWorker",
            Severity.CRITICAL,
            f"{_ready('decode')} == 0 unless {on} ({_wanted('decode')} == 0)",
            "1m",
            f"{_OF} has no decode worker",
            "No router sees a ready decode worker: requests are held, then fail with 503.",
        ),
        Alert(
            "BatonNoPrefillWorker",
            Severity.WARNING,
            f"{_ready('prefill')} == 0 and {on} ({_wanted('prefill')} > 0)",
            "5m",
            f"{_OF} has no prefill worker",
            "Decode workers compute the prompts themselves: requests succeed, tokens come slower.",
        ),
        Alert(
            "BatonWorkersRestart",
            Severity.WARNING,
            f"sum by ({_LABELS}, role) (changes(process_start_time_seconds"
            '{role=~"router|prefill|decode"}[30m])) > 2',
            "0m",
            f"{_OF} {{{{ $labels.role }}}} restarts",
            f"{_VALUE} restarts of {{{{ $labels.role }}}} containers in 30 minutes.",
        ),
        Alert(
            "BatonRequestsRefused",
            Severity.WARNING,
            ratio(
                rate("vllm:admission_rejections_total", by=SERVICE_LABELS, window="10m"),
                rate(
                    "baton_router_requests_total",
                    'endpoint=~"/v1/.*completions"',
                    by=SERVICE_LABELS,
                    window="10m",
                ),
            )
            + " > 0.05",
            "10m",
            f"{_OF} refuses requests",
            f"{_SHARE} of requests are answered with 429: the routers' limits are reached.",
        ),
        Alert(
            "BatonRequestsHeld",
            Severity.WARNING,
            f"sum by ({_LABELS}) (baton_router_requests_held) > 0",
            "5m",
            f"{_OF} holds requests",
            f"{_VALUE} requests wait because no decode worker is ready.",
        ),
        Alert(
            "BatonCertificateExpires",
            Severity.CRITICAL,
            f"min by ({_LABELS}) (baton_tls_certificate_expiry_timestamp_seconds) - time()"
            f" < {CERTIFICATE_LEFT_S}",
            "1h",
            f"The certificate of {_OF} expires",
            "The pods' certificate expires in {{ $value | humanizeDuration }} and was not renewed.",
        ),
    )


def _engine() -> tuple[Alert, ...]:
    failed = rate(
        "baton_handoff_total", 'outcome!~"complete|cancelled"', by=SERVICE_LABELS, window="10m"
    )
    ended = rate("baton_handoff_total", 'outcome!="cancelled"', by=SERVICE_LABELS, window="10m")
    return (
        Alert(
            "BatonHandoffsFail",
            Severity.WARNING,
            f"{ratio(failed, ended)} > 0.05",
            "10m",
            f"Hand-offs of {_OF} fail",
            f"{_SHARE} of hand-offs fail; decode computes these prompts itself.",
        ),
        Alert(
            "BatonKvCacheFull",
            Severity.WARNING,
            f"avg by ({_LABELS}, role) (avg_over_time(vllm:kv_cache_usage_perc[5m]))"
            f" > {KV_SHORT} and sum by ({_LABELS}, role)"
            " (avg_over_time(vllm:num_requests_waiting[5m])) > 1",
            "10m",
            f"The KV cache of {_OF} {{{{ $labels.role }}}} is full",
            f"{_SHARE} of KV blocks are in use: requests wait for blocks.",
        ),
        Alert(
            "BatonPreemptions",
            Severity.WARNING,
            f"{rate('vllm:num_preemptions_total', by=SERVICE_LABELS, window='10m')} > 0.1",
            "10m",
            f"{_OF} preempts requests",
            f"{_VALUE} requests per second lose their KV and are computed again.",
        ),
        Alert(
            "BatonCostModelWrong",
            Severity.WARNING,
            "avg_over_time(baton_cost_model_error_ratio[10m]) > 0.5",
            "30m",
            f"The cost model of {_POD} is wrong",
            f"Step durations differ from their prediction by {_SHARE}; scaling rests on it.",
        ),
    )


def _control() -> tuple[Alert, ...]:
    at_maximum = rate(
        "baton_operator_scaling_decisions_total", 'reason="AtMaximum"', by=["role"], window="5m"
    )
    errors = rate("controller_runtime_reconcile_errors_total", by=["controller"], window="10m")
    return (
        Alert(
            "BatonServiceNotReady",
            Severity.WARNING,
            f"min by ({_LABELS}) (baton_operator_service_ready) == 0",
            "15m",
            f"{_OF} is not Ready",
            "A role has not become ready for 15 minutes; the ModelService's conditions say why.",
        ),
        Alert(
            "BatonScalingAtMaximum",
            Severity.WARNING,
            f"{at_maximum} > 0",
            "15m",
            "{{ $labels.role }} pods cannot grow",
            "The demand on a ModelService needs more pods than its maxReplicas allows.",
        ),
        Alert(
            "BatonScalingHeld",
            Severity.WARNING,
            f"max by ({_LABELS}) (baton_operator_routers_silent) > 0",
            "10m",
            f"The number of {_OF} pods is held",
            f"{_VALUE} routers do not tell the operator their signals: nothing is scaled.",
        ),
        Alert(
            "BatonOperatorNotLeading",
            Severity.CRITICAL,
            "sum(leader_election_master_status) == 0 or absent(leader_election_master_status)",
            "5m",
            "No Baton operator leads",
            "Nobody scales, heals or renews certificates. What runs keeps serving.",
        ),
        Alert(
            "BatonReconcileErrors",
            Severity.WARNING,
            f"{errors} > 0",
            "15m",
            "The Baton operator cannot reconcile",
            f"{_VALUE} passes per second of {{{{ $labels.controller }}}} fail.",
        ),
    )
