"""The operator's metrics: names that dashboards of operators ask for, and no series of the dead."""

import pytest
from baton.common.metrics import Kind
from baton_operator.metrics import OPERATOR_TABLE, OperatorMetrics
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

CONTROLLER_RUNTIME = {
    "controller_runtime_reconcile_total",
    "controller_runtime_reconcile_errors_total",
    "controller_runtime_reconcile_time_seconds",
    "controller_runtime_active_workers",
    "controller_runtime_max_concurrent_reconciles",
    "workqueue_depth",
    "workqueue_adds_total",
    "workqueue_retries_total",
    "workqueue_queue_duration_seconds",
    "workqueue_work_duration_seconds",
    "leader_election_master_status",
    "rest_client_requests_total",
}


def test_the_table_has_the_names_of_controller_runtime() -> None:
    names = [spec.name for spec in OPERATOR_TABLE]
    assert len(names) == len(set(names))
    assert set(names) >= CONTROLLER_RUNTIME


@pytest.mark.parametrize("spec", OPERATOR_TABLE, ids=lambda spec: str(spec.name))
def test_a_metric_is_shown_under_the_name_and_labels_of_the_table(spec: object) -> None:
    metrics = OperatorMetrics(CollectorRegistry())
    labels = dict.fromkeys(spec.labels, "x")  # type: ignore[attr-defined]
    name, kind = spec.name, spec.kind  # type: ignore[attr-defined]
    act = {Kind.COUNTER: metrics.count, Kind.GAUGE: metrics.gauge, Kind.HISTOGRAM: metrics.observe}
    act[kind](name, 1.0, **labels)
    shown = {
        sample.name: sample.labels
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }
    assert shown[f"{name}_count" if kind is Kind.HISTOGRAM else name] == labels
    assert (kind is Kind.COUNTER) == name.endswith("_total")


def test_series_of_a_service_end_with_it() -> None:
    metrics = OperatorMetrics(CollectorRegistry())
    for service in ("a", "b"):
        where = {"namespace": "models", "service": service}
        metrics.service_gauge("baton_operator_service_ready", 1.0, **where)
        metrics.service_gauge("baton_operator_replicas", 2.0, **where, role="decode", kind="ready")
        metrics.service_count(
            "baton_operator_scaling_changes_total",
            **where,
            role="decode",
            direction="up",
            reason="Idle",
        )
    metrics.forget_service("models", "a")
    metrics.forget_service("models", "never-there")
    page = metrics.render().decode()
    assert 'service="a"' not in page
    assert page.count('service="b"') >= 3
