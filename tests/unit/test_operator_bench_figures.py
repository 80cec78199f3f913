"""Figures of `make bench-operator`: from metrics pages and audit lines to what is printed."""

import json

import pytest
from cluster.bench.figures import Reading, audited_calls, quantile, read_page, span, writes_of
from cluster.bench.report import OperatorReport, Phase, Serving, as_document, cells
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


def page(passes: list[float], calls: int, cpu_s: float = 0.0, mib: float = 100.0) -> str:
    """As the operator's, by the same library."""
    registry = CollectorRegistry()
    time_s = Histogram(
        "controller_runtime_reconcile_time_seconds",
        "h",
        ["controller"],
        buckets=(0.1, 0.2, 0.4),
        registry=registry,
    )
    ended = Counter("controller_runtime_reconcile_total", "h", ["result"], registry=registry)
    for took_s in passes:
        time_s.labels("modelservice").observe(took_s)
        ended.labels("error" if took_s > 1 else "requeue_after").inc()
    asked = Counter("rest_client_requests_total", "h", ["code", "method"], registry=registry)
    asked.labels("200", "GET").inc(calls)
    asked.labels("200", "PUT").inc(1)
    Counter("process_cpu_seconds_total", "h", registry=registry).inc(cpu_s)
    Gauge("process_resident_memory_bytes", "h", registry=registry).set(mib * 1024 * 1024)
    return generate_latest(registry).decode()


def reading(taken_s: float, passes: list[float], calls: int, **named: float) -> Reading:
    return read_page(page(passes, calls, **named), taken_s)


def event(verb: str, resource: str, stage: str = "ResponseComplete") -> str:
    return json.dumps({"verb": verb, "stage": stage, "objectRef": {"resource": resource}})


def test_a_span_counts_what_happened_between_its_readings_only() -> None:
    slow_before = [9.0] * 10
    found = span(
        reading(10.0, slow_before, calls=50, cpu_s=3.0),
        reading(40.0, [*slow_before, 0.15, 0.15, 0.15, 5.0], calls=70, cpu_s=18.0, mib=120.0),
    )
    assert (found.seconds, found.passes, found.failed_passes) == (30.0, 4, 1)
    assert (found.calls, found.calls_per_minute, found.calls_per_pass) == (20, 40.0, 5.0)
    assert (found.cpu_cores, found.memory_mib) == (0.5, 120.0)
    assert found.pass_p50_s == pytest.approx(0.1 + 0.1 * 2 / 3)
    assert found.pass_p99_s == 0.4  # beyond the last bound there is nothing to say


def test_a_span_without_a_pass_has_no_pass_times() -> None:
    found = span(reading(0.0, [0.3], calls=1), reading(60.0, [0.3], calls=61))
    assert (found.passes, found.pass_p50_s, found.pass_p99_s) == (0, None, None)
    assert (found.calls_per_minute, found.calls_per_pass) == (60.0, None)


def test_readings_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="not later"):
        span(reading(2.0, [], calls=1), reading(1.0, [], calls=1))


@pytest.mark.parametrize(
    ("q", "expected"),
    [(0.25, 0.5), (0.5, 1.0), (0.75, 1.5), (1.0, 2.0), (0.0, 0.0)],
)
def test_a_quantile_is_linear_within_its_bucket(q: float, expected: float) -> None:
    assert quantile({1.0: 10.0, 2.0: 20.0, 3.0: 20.0, float("inf"): 20.0}, q) == expected


def test_a_watch_counts_once_and_when_it_begins() -> None:
    lines = [
        event("watch", "pods", "ResponseStarted"),
        event("watch", "pods", "ResponseComplete"),
        event("list", "pods"),
        event("list", "pods"),
        event("update", "leases"),
        event("patch", "deployments"),
        json.dumps({"verb": "get", "stage": "ResponseComplete", "requestURI": "/api?timeout=1"}),
    ]
    calls = audited_calls(lines)
    assert calls == {
        "list pods": 2,
        "watch pods": 1,
        "update leases": 1,
        "patch deployments": 1,
        "get /api": 1,
    }
    assert next(iter(calls)) == "list pods"
    assert writes_of(calls) == 1


def test_ratios_are_over_the_processes_own_start() -> None:
    serving = Serving(
        container_started_s=3.0,
        pod_ready_s=11.0,
        first_token_s=12.0,
        step_decided_s=6.0,
        step_started_s=8.0,
        step_ready_s=18.0,
    )
    assert (serving.of_bare_start, serving.step_of_bare_start) == (1.5, 1.8)


def test_the_document_carries_what_is_printed() -> None:
    found = span(reading(0.0, [], calls=0), reading(60.0, [0.15], calls=11))
    phase = Phase("idle", 500, found, {"list pods": 3, "watch pods": 1})
    serving = Serving(3.0, 11.0, 12.0, 6.0, 8.0, 18.0)
    document = as_document(OperatorReport("a machine", "abc", 0.5, [serving], [phase]))
    (fleet,), (round_,) = document["fleet"], document["serving"]
    assert fleet["calls_per_pass"] == fleet["calls_per_minute"] == 11.0
    assert fleet["audited_per_minute"] == 4.0
    assert round_["first_token_of_bare_start"] == 1.5
    assert json.loads(json.dumps(document))["commit"] == "abc"
    assert cells(phase)[:4] == ("500", "60", "1", "0")
