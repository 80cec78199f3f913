"""A real fault makes each alert fire, in a real Prometheus over real processes.

The chart's own rules, an hour of theirs in a minute of ours. What only an operator can report of
befalls one in tests/cluster/apiserver.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.alert_faults import Fault, alert_names, alerts_of, check_noticed, lacks
from support.faults_data_plane import CRASHES, DATA_PLANE, Site, running_site
from support.faults_operator import OPERATOR
from support.prometheus_server import (
    FiringAlert,
    Prometheus,
    running_prometheus,
    static_targets,
)
from support.prometheus_tools import prometheus_tools

FACTOR = 60.0
ALERT_LIMIT_S = 180.0  # the slowest waits for 60 s; two busy cores may double it
DATA_LIMIT_S = 60.0

AWAITED = [*alerts_of(DATA_PLANE), *alerts_of([CRASHES]), *alerts_of(OPERATOR)]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    prometheus_tools()
    with running_site(tmp_path_factory.mktemp("site")) as found:
        yield found


@pytest.fixture(scope="module")
def prometheus(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    with running_prometheus(folder, [static_targets(site.targets)], factor=FACTOR) as found:
        yield found


@pytest.mark.parametrize("alert", alert_names())
def test_every_alert_has_a_fault_that_makes_it_fire(alert: str) -> None:
    assert Counter(AWAITED)[alert] == 1


def test_no_fault_awaits_an_alert_that_is_gone() -> None:
    assert set(AWAITED) <= set(alert_names())


def test_what_a_reader_would_miss_in_an_alert_is_found() -> None:
    whole = {
        "summary": "shop/chat fails requests",
        "description": "1% of requests failed.",
        "runbook_url": "docs/operations.md#batonerrorbudgetburn",
    }
    assert lacks(FiringAlert("A", {}, whole)) == []
    assert lacks(FiringAlert("A", {}, whole | {"summary": "shop/ fails requests"})) != []
    assert (
        lacks(FiringAlert("A", {}, whole | {"description": "<no value> of requests failed."})) != []
    )
    assert lacks(FiringAlert("A", {}, whole | {"runbook_url": "docs/operations.md#nowhere"})) != []
    assert len(lacks(FiringAlert("A", {}, {}))) == 3


def test_while_all_is_well_nothing_fires(prometheus: Prometheus) -> None:
    for expr in (
        'service_slo:baton_slo_missed:ratio_rate5m{slo="itl"} < 1',
        'rate(baton_handoff_total{outcome="complete"}[10s]) > 0',
        "baton_cost_model_error_ratio > 0",
        "baton_tls_certificate_expiry_timestamp_seconds > 0",
    ):
        prometheus.wait_for(expr, DATA_LIMIT_S)
    assert prometheus.ever_fired() <= {"BatonOperatorNotLeading"}  # there is none here


@pytest.mark.parametrize(
    "faults", DATA_PLANE, ids=lambda faults: ", ".join(fault.name for fault in faults)
)
def test_a_fault_is_noticed(
    site: Site, prometheus: Prometheus, faults: Sequence[Fault[Site]]
) -> None:
    check_noticed(site, prometheus, faults, ALERT_LIMIT_S)


def test_crashes_are_noticed_by_the_very_rules_of_the_chart(site: Site, tmp_path: Path) -> None:
    with running_prometheus(tmp_path, [static_targets(site.targets)]) as prometheus:
        prometheus.wait_for('process_start_time_seconds{role="router"}', DATA_LIMIT_S)
        check_noticed(site, prometheus, CRASHES, ALERT_LIMIT_S)
