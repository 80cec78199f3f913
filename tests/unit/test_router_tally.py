"""What passes through the router, as signals and as metrics."""

import msgspec
from baton.common.metrics import Metrics
from baton.common.signals import LATELY_S
from baton.router.tally import Tally, Targets
from prometheus_client import CollectorRegistry
from support.hand_clock import HandClock


def tally(targets: Targets) -> tuple[Tally, Metrics, HandClock]:
    metrics, clock = Metrics(CollectorRegistry(), model_name="m"), HandClock()
    return Tally(metrics, clock, targets), metrics, clock


def test_attainment_is_judged_against_the_targets_which_may_be_met_exactly() -> None:
    told, metrics, _ = tally(Targets(ttft_s=0.5, itl_s=0.05))
    for ttft_s in (0.1, 0.5, 0.6):
        told.first_token(ttft_s)
    told.output_ended(0.06)
    traffic = told.traffic()
    assert (traffic.ttft_requests, traffic.ttft_attained) == (3, 2)
    assert (traffic.itl_requests, traffic.itl_attained) == (1, 0)
    text = metrics.render().decode()
    name = "baton_router_slo_requests_total"
    assert f'{name}{{attained="true",model_name="m",slo="ttft"}} 2.0' in text
    assert f'{name}{{attained="false",model_name="m",slo="itl"}} 1.0' in text


def test_without_targets_nothing_is_attained_and_no_metric_claims_otherwise() -> None:
    told, metrics, _ = tally(Targets())
    told.first_token(0.1)
    assert (told.traffic().ttft_requests, told.traffic().ttft_attained) == (1, 0)
    assert "slo_requests" not in metrics.render().decode()


def test_running_and_held_are_of_now_and_sums_of_the_last_minute() -> None:
    told, _, clock = tally(Targets())
    told.arrived(10)
    told.submitted()
    told.held(4)
    clock.now_s += 30
    traffic = told.traffic()
    assert (traffic.requests_running, traffic.requests_waiting) == (1, 4)
    assert (traffic.requests_arrived, traffic.prompt_tokens_arrived) == (1, 10)
    assert traffic.window_s == 30
    clock.now_s += 40
    told.left()
    told.ended(3)
    traffic = told.traffic()
    assert (traffic.requests_running, traffic.requests_arrived) == (0, 0)
    assert (traffic.requests_ended, traffic.output_tokens, traffic.window_s) == (1, 3, 60)


def test_what_arrived_lately_is_told_beside_the_minute() -> None:
    told, _, clock = tally(Targets())
    told.arrived(10)
    told.found_cached(4)
    told.ended(3)
    lately = told.traffic().lately
    assert lately is not None
    assert (lately.requests_arrived, lately.prompt_tokens_arrived) == (1, 10)
    assert lately.prompt_tokens_cached == 4
    assert (lately.requests_ended, lately.output_tokens) == (1, 3)
    clock.now_s += LATELY_S + 1
    traffic = told.traffic()
    assert traffic.prompt_tokens_arrived == 10
    assert traffic.lately is not None
    assert not any(msgspec.structs.astuple(traffic.lately))
