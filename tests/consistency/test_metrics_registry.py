"""The registry of metrics, the code that reports them, and docs/metrics.md say the same."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from baton.common.errors import Draining, Overloaded, Unavailable, WorkerFailed
from baton.common.metrics import Metrics
from baton.common.registry import METRICS, Kind, MetricSpec
from baton.decode.path import PrefillPath
from baton.engine.params import FinishReason
from baton.handoff.receiver import Outcome
from baton.router.admission import Shed
from baton.router.decide import Reason
from baton_loadtest.observability.metrics_page import PAGE, all_specs, metrics_page
from baton_operator.metrics import OPERATOR_TABLE
from prometheus_client import CollectorRegistry
from support.metric_calls import Report, mentioned, reports, reports_of

ROOT = Path(__file__).resolve().parents[2]

SIDES = {
    "data plane": (Path("services/baton"), Path("services/baton/common/registry.py"), METRICS),
    "operator": (
        Path("operator/baton_operator"),
        Path("operator/baton_operator/metrics.py"),
        OPERATOR_TABLE,
    ),
}
Side = tuple[Path, Path, Sequence[MetricSpec]]

UNBOUNDED = {
    "request_id",
    "user",
    "api_key",
    "key",
    "prompt",
    "session_id",
    "trace_id",
    "path_info",
}


@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
def test_what_code_reports_is_registered_with_its_labels(side: Side) -> None:
    folder, _, table = side
    found = reports(ROOT, folder)
    assert len(found) > 5
    assert [problem for report in found for problem in _problems(report, _by_name(table))] == []


@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
def test_what_is_registered_is_reported_somewhere(side: Side) -> None:
    folder, tables, table = side
    names = mentioned(ROOT, folder, besides=tables)
    ours = {spec.name for spec in table} - {"baton_build_info"}  # reported beside its table
    assert ours - names == set()


def test_an_unregistered_report_or_a_wrong_label_would_be_noticed() -> None:
    source = 'metrics.count("baton_nonsense_total")\nmetrics.gauge("baton_draining", 1, pod="x")\n'
    first, second = reports_of(source, "x.py")
    assert _problems(first, _by_name(METRICS)) == ["x.py:1: baton_nonsense_total: not registered"]
    assert _problems(second, _by_name(METRICS)) == ["x.py:2: baton_draining: labels pod, not none"]


def test_the_page_is_the_generated_one() -> None:
    assert (ROOT / PAGE).read_text() == metrics_page(), "run `make metrics-docs`"


@pytest.mark.parametrize("spec", [*METRICS, *OPERATOR_TABLE], ids=lambda spec: spec.name)
def test_a_metric_is_named_as_prometheus_wants(spec: MetricSpec) -> None:
    assert spec.help
    assert not spec.help.endswith(".")
    assert bool(spec.buckets) == (spec.kind is Kind.HISTOGRAM)
    assert list(spec.buckets) == sorted(set(spec.buckets))
    assert not UNBOUNDED & set(spec.labels)
    assert len(spec.values) in (0, len(spec.labels))
    if spec.kind is Kind.COUNTER:
        assert spec.name.endswith("_total")


def test_names_are_given_once() -> None:
    assert len(all_specs()) == len(METRICS) + len(OPERATOR_TABLE)


def test_known_label_values_are_those_of_the_code() -> None:
    specs = _by_name(METRICS)
    known = {name: spec.values[0] for name, spec in specs.items() if spec.values}
    assert set(known["baton_handoff_total"]) == {outcome.value for outcome in Outcome}
    assert set(known["baton_decode_prefill_total"]) == {path.value for path in PrefillPath}
    assert set(known["baton_router_decisions_total"]) == {reason.value for reason in Reason}
    shed = {shed.name.lower() for shed in Shed}
    assert shed < set(known["baton_router_refusals_total"])
    assert set(known["vllm:admission_rejections_total"]) == shed - {"tenant_requests"}
    assert {FinishReason.STOP.value, FinishReason.LENGTH.value} < set(
        known["vllm:request_success_total"]
    )
    assert set(known["baton_router_resubmissions_total"]) == {
        error.code for error in (Unavailable, Overloaded, Draining, WorkerFailed)
    }


def test_declared_metrics_stand_at_zero_with_every_known_label() -> None:
    metrics = Metrics(CollectorRegistry(), model_name="m")
    metrics.declare(["baton_router_slo_requests_total", "vllm:num_preemptions_total"])
    text = metrics.render().decode()
    assert 'vllm:num_preemptions_total{model_name="m"} 0.0' in text
    for slo in ("ttft", "itl"):
        for attained in ("true", "false"):
            labels = f'attained="{attained}",model_name="m",slo="{slo}"'
            assert f"baton_router_slo_requests_total{{{labels}}} 0.0" in text


def test_a_process_tells_its_version_and_its_start() -> None:
    text = Metrics(CollectorRegistry(), model_name="m").render().decode()
    assert 'baton_build_info{model_name="m",version="' in text
    assert "\nprocess_start_time_seconds " in text
    assert 'baton_draining{model_name="m"} 0.0' in text


def _by_name(table: Sequence[MetricSpec]) -> Mapping[str, MetricSpec]:
    return {spec.name: spec for spec in table}


def _problems(report: Report, registry: Mapping[str, MetricSpec]) -> list[str]:
    spec = registry.get(report.name)
    if spec is None:
        return [f"{report.where}: {report.name}: not registered"]
    if report.labels is None or report.labels == set(spec.labels):
        return []
    given, wanted = (", ".join(sorted(names)) or "none" for names in (report.labels, spec.labels))
    return [f"{report.where}: {report.name}: labels {given}, not {wanted}"]
