"""The operator's metrics: controller-runtime's and client-go's names where they have one, ours for
scaling.

A metric exists in the table before it exists in code, as in `baton.common.registry`; dashboards for
Go operators read these names. Series of a service end with the service.
"""

from itertools import product
from typing import TypeVar

from baton.common.registry import Kind, MetricSpec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from baton_operator.names import WORKER_ROLES
from baton_operator.scaling import Reason

CONTROLLER = "modelservice"
"""Value of the labels `controller` and `name`: this operator has one of each."""

RECONCILE_BUCKETS_S = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8),
    *(0.9, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0),
    *(15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0),
)
QUEUE_BUCKETS_S = tuple(10.0**power for power in range(-8, 4))

_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_SERVICE = ("namespace", "service")

OPERATOR_TABLE: tuple[MetricSpec, ...] = (
    MetricSpec(
        "controller_runtime_reconcile_total",
        _C,
        "Passes ended, by result: success, requeue_after or error",
        ("controller", "result"),
    ),
    MetricSpec(
        "controller_runtime_reconcile_errors_total",
        _C,
        "Passes that failed and are tried again",
        ("controller",),
        values=((CONTROLLER,),),
    ),
    MetricSpec(
        "controller_runtime_reconcile_time_seconds",
        _H,
        "Duration of a pass",
        ("controller",),
        RECONCILE_BUCKETS_S,
    ),
    MetricSpec("controller_runtime_active_workers", _G, "Passes under way now", ("controller",)),
    MetricSpec(
        "controller_runtime_max_concurrent_reconciles",
        _G,
        "Passes that may be under way at once",
        ("controller",),
    ),
    MetricSpec("workqueue_depth", _G, "ModelServices that wait for a pass", ("name",)),
    MetricSpec("workqueue_adds_total", _C, "Passes asked for", ("name",)),
    MetricSpec("workqueue_retries_total", _C, "Passes asked for because one failed", ("name",)),
    MetricSpec(
        "workqueue_queue_duration_seconds",
        _H,
        "From when a pass is due to when it begins",
        ("name",),
        QUEUE_BUCKETS_S,
    ),
    MetricSpec(
        "workqueue_work_duration_seconds",
        _H,
        "Duration of a pass, as the queue sees it",
        ("name",),
        QUEUE_BUCKETS_S,
    ),
    MetricSpec(
        "leader_election_master_status", _G, "1 on the operator that acts, else 0", ("name",)
    ),
    MetricSpec(
        "rest_client_requests_total",
        _C,
        "Calls to the API server, retries included, watches not; code 0 is none at all",
        ("code", "method"),
    ),
    MetricSpec(
        "baton_operator_replicas",
        _G,
        "Pods of a role: desired, existing (kind replicas) or ready",
        (*_SERVICE, "role", "kind"),
    ),
    MetricSpec(
        "baton_operator_service_ready", _G, "1 while the ModelService is Ready, else 0", _SERVICE
    ),
    MetricSpec(
        "baton_operator_scaling_decisions_total",
        _C,
        "Decisions of the scaling law, by reason, those that change nothing included",
        ("role", "reason"),
        values=(
            tuple(role.value for role in WORKER_ROLES),
            tuple(reason.value for reason in Reason),
        ),
    ),
    MetricSpec(
        "baton_operator_scaling_changes_total",
        _C,
        "Decisions that changed a role's replicas",
        (*_SERVICE, "role", "direction", "reason"),
    ),
    MetricSpec(
        "baton_operator_signals_age_seconds",
        _G,
        "Age of the oldest router's signals that the last decision was made by",
        _SERVICE,
    ),
    MetricSpec(
        "baton_operator_routers_silent",
        _G,
        "Routers that were expected to answer for the last decision and did not",
        _SERVICE,
    ),
)

_CollectorT = TypeVar("_CollectorT", Counter, Gauge, Histogram)


class OperatorMetrics:
    """The metrics of one operator process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._collectors = {spec.name: _made(spec, registry) for spec in OPERATOR_TABLE}
        for spec in OPERATOR_TABLE:
            for values in product(*spec.values) if spec.values else ():
                self._collectors[spec.name].labels(*values)  # at zero, before the first one counts
        self._series: dict[tuple[str, str], set[tuple[str, tuple[str, ...]]]] = {}

    def count(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        self._of(name, Counter).labels(**labels).inc(amount)

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        self._of(name, Gauge).labels(**labels).set(value)

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        self._of(name, Histogram).labels(**labels).observe(value)

    def service_gauge(
        self, name: str, value: float, *, namespace: str, service: str, **labels: str
    ) -> None:
        """A gauge that ends with its ModelService."""
        collector = self._of(name, Gauge)
        collector.labels(namespace=namespace, service=service, **labels).set(value)
        self._remember(name, namespace, service, labels)

    def service_count(self, name: str, *, namespace: str, service: str, **labels: str) -> None:
        """A counter that ends with its ModelService."""
        collector = self._of(name, Counter)
        collector.labels(namespace=namespace, service=service, **labels).inc()
        self._remember(name, namespace, service, labels)

    def forget_service(self, namespace: str, service: str) -> None:
        """A gauge of what is gone would be believed for ever."""
        for name, values in self._series.pop((namespace, service), ()):
            self._collectors[name].remove(*values)

    def render(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self._registry)

    def _remember(self, name: str, namespace: str, service: str, labels: dict[str, str]) -> None:
        given = {"namespace": namespace, "service": service, **labels}
        spec = next(one for one in OPERATOR_TABLE if one.name == name)
        values = tuple(given[label] for label in spec.labels)
        self._series.setdefault((namespace, service), set()).add((name, values))

    def _of(self, name: str, kind: type[_CollectorT]) -> _CollectorT:
        collector: object = self._collectors[name]
        assert isinstance(collector, kind), f"{name} is of another kind"
        return collector


def _made(spec: MetricSpec, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    match spec.kind:
        case Kind.COUNTER:
            return Counter(spec.name, spec.help, spec.labels, registry=registry)
        case Kind.GAUGE:
            return Gauge(spec.name, spec.help, spec.labels, registry=registry)
        case Kind.HISTOGRAM:
            return Histogram(
                spec.name, spec.help, spec.labels, buckets=spec.buckets, registry=registry
            )
