"""Which pod goes first: the one with the least to finish."""

from typing import Any

from baton.common.signals import WorkerSignals
from baton_operator.departure import COST_ANNOTATION, departure_costs
from support.router_signals import resting_worker


def pod(name: str, host: str, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}, "status": {"podIP": host}}


def worker(running: int, *, used: int = 0, blocks: int = 100) -> WorkerSignals:
    return resting_worker(requests_running=running, blocks_used=used, block_count=blocks)


PODS = [pod("a", "10.0.0.1"), pod("b", "10.0.0.2"), pod("c", "10.0.0.3"), pod("d", "10.0.0.4")]
WORKERS = {
    "10.0.0.1": worker(5, used=1),
    "10.0.0.2": worker(2, used=90),
    "10.0.0.3": worker(2, used=10),
}


def order(costs: dict[str, str]) -> list[str]:
    return sorted(costs, key=lambda name: int(costs[name]))


def test_fewer_requests_go_first_then_less_kv_and_unknown_pods_before_all() -> None:
    assert order(departure_costs(PODS, WORKERS)) == ["d", "c", "b", "a"]


def test_a_pod_that_goes_anyway_and_one_with_the_right_mark_are_left_alone() -> None:
    going = pod("a", "10.0.0.1", deletionTimestamp="2026-11-22T20:00:00Z")
    (cost,) = departure_costs([pod("b", "10.0.0.2")], WORKERS).values()
    marked = pod("b", "10.0.0.2", annotations={COST_ANNOTATION: cost})
    assert departure_costs([going, marked], WORKERS) == {}


def test_a_cost_is_an_int32_whatever_was_said() -> None:
    costs = departure_costs([pod("a", "10.0.0.1")], {"10.0.0.1": worker(10**12, used=10**9)})
    assert 0 <= int(costs["a"]) < 2**31


def test_a_worker_without_blocks_has_a_cost() -> None:
    costs = departure_costs([pod("a", "10.0.0.1")], {"10.0.0.1": worker(1, blocks=0)})
    assert int(costs["a"]) > 0
