"""A real fault makes each of the operator's alerts fire, in a real Prometheus over real processes.

Its part of tests/integration/test_alerts_fire.py: an operator needs an API server.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.alert_faults import Fault, check_noticed
from support.control_plane import ControlPlane
from support.faults_operator import NAMESPACE, OPERATOR, Estate, running_estate
from support.prometheus_server import Prometheus, running_prometheus, static_targets
from support.prometheus_tools import prometheus_tools

FACTOR = 30.0
"""Less than with processes alone: the operator decides every 5 s, and the shortest range of its
rules must have two decisions in it."""

ALERT_LIMIT_S = 120.0  # the slowest takes 40 s; two busy cores may double it
DATA_LIMIT_S = 60.0

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def estate(
    plane: ControlPlane, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Estate]:
    prometheus_tools()
    with running_estate(plane, kubeconfig, tmp_path_factory.mktemp("estate")) as found:
        yield found


@pytest.fixture(scope="module")
def prometheus(estate: Estate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    with running_prometheus(folder, [static_targets(estate.targets)], factor=FACTOR) as found:
        yield found


def test_while_all_is_well_nothing_fires(prometheus: Prometheus) -> None:
    where = f'namespace="{NAMESPACE}"'
    for expr in (
        f"baton_operator_service_ready{{{where}}} == 1",
        f"baton_operator_routers_silent{{{where}}} == 0",
        'rate(baton_operator_scaling_decisions_total{role="decode"}[10s]) > 0',
        'baton_router_workers_ready{role="prefill"} == 1',
        "leader_election_master_status == 1",
    ):
        prometheus.wait_for(expr, DATA_LIMIT_S)
    assert prometheus.ever_fired() == set()


@pytest.mark.parametrize(
    "faults", OPERATOR, ids=lambda faults: ", ".join(fault.name for fault in faults)
)
def test_a_fault_is_noticed(
    estate: Estate, prometheus: Prometheus, faults: Sequence[Fault[Estate]]
) -> None:
    check_noticed(estate, prometheus, faults, ALERT_LIMIT_S)
