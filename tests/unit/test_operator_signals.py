"""What all routers say, added up: traffic is summed, a worker counts once, as it was heard last."""

from typing import Any

import pytest
from baton.common.signals import LATELY_S, Lately, RouterSignals, WorkerSignals
from baton_operator.signals import (
    WINDOW_MIN_S,
    WORKER_SILENT_S,
    Heard,
    add_up,
    distinct_workers,
    requests_on,
)
from support.router_signals import quiet_traffic, resting_worker


def worker(**changes: Any) -> WorkerSignals:
    """One that works, and knows its speed."""
    works = {
        "age_s": 1.0,
        "requests_running": 4,
        "blocks_used": 30,
        "fixed_s": 0.01,
        "prefill_token_s": 0.001,
        "decode_row_s": 0.002,
        "kv_token_s": 0.00001,
    }
    return resting_worker(**{**works, **changes})


def heard(*workers: WorkerSignals, asked_s: float = 100.0, **traffic: Any) -> Heard:
    told = quiet_traffic(**traffic)
    signals = RouterSignals(model_name="m", incarnation=1, traffic=told, workers=workers)
    return Heard(signals, asked_s)


def test_nobody_heard_is_nothing_known() -> None:
    assert add_up((), expected=2) is None


def test_a_router_that_is_missing_shows() -> None:
    signals = add_up((heard(),), expected=2)
    assert signals is not None
    assert (signals.routers_heard, signals.routers_expected) == (1, 2)


def test_signals_are_as_old_as_the_oldest_answer() -> None:
    signals = add_up((heard(asked_s=100.0), heard(asked_s=97.5)), expected=2)
    assert signals is not None
    assert signals.taken_s == 97.5


def test_traffic_is_summed_over_routers() -> None:
    signals = add_up(
        (
            heard(requests_waiting=1, requests_running=2, ttft_requests=10, ttft_attained=9),
            heard(requests_waiting=3, requests_running=4, ttft_requests=30, ttft_attained=15),
        ),
        expected=2,
    )
    assert signals is not None
    assert (signals.requests_waiting, signals.requests_running) == (4, 6)
    assert signals.ttft is not None
    assert (signals.ttft.share, signals.ttft.requests) == (0.6, 40)
    assert signals.itl is None  # no request to tell by


def test_a_worker_that_two_routers_know_counts_once_as_it_was_heard_last() -> None:
    old = worker(age_s=5.0, requests_running=9)
    new = worker(age_s=0.5, requests_running=4)
    other = worker(address="10.0.0.2:7000", requests_running=1)
    for order in ((heard(old), heard(new, other)), (heard(new, other), heard(old))):
        assert [one.requests_running for one in distinct_workers(order)] == [4, 1]


def test_freshness_counts_from_when_the_router_was_asked() -> None:
    earlier = heard(worker(age_s=0.5, requests_running=9), asked_s=90.0)
    later = heard(worker(age_s=5.0, requests_running=4), asked_s=100.0)
    (one,) = distinct_workers((earlier, later))
    assert one.requests_running == 4


@pytest.mark.parametrize("age_s", [WORKER_SILENT_S + 0.1, float("nan"), -1.0])
def test_a_worker_that_is_silent_counts_for_nothing(age_s: float) -> None:
    assert distinct_workers((heard(worker(age_s=age_s)),)) == ()


def test_prefill_hears_what_no_cache_holds() -> None:
    prefill = worker(
        address="10.0.0.3:7000", role="prefill", prefill_tokens_waiting=500, prefill_token_s=0.0005
    )
    signals = add_up(
        (
            heard(
                prefill,
                worker(prefill_tokens_waiting=20),
                requests_arrived=30,
                prompt_tokens_arrived=9_000,
                prompt_tokens_cached=3_000,
                requests_waiting=2,
            ),
        ),
        expected=1,
    )
    assert signals is not None
    assert signals.prefill is not None
    assert signals.prefill.prompt_tokens == 200
    assert signals.prefill.arrival_tokens_per_s == 100
    assert signals.prefill.backlog_tokens == 500 + 20 + 2 * 200
    assert signals.prefill.speed_tokens_per_s == pytest.approx(2_000)


def test_a_tokens_cost_grows_with_its_prompt() -> None:
    prefill = worker(role="prefill", prefill_token_s=0.001, prefill_kv_token_s=0.00001)
    told = heard(prefill, requests_arrived=1, prompt_tokens_arrived=200)
    signals = add_up((told,), expected=1)
    assert signals is not None
    assert signals.prefill is not None
    assert signals.prefill.speed_tokens_per_s == pytest.approx(1 / (0.001 + 0.00001 * 100))


def test_without_a_prefill_worker_decodes_speed_is_the_estimate() -> None:
    signals = add_up((heard(worker(prefill_token_s=0.01)),), expected=1)
    assert signals is not None
    assert signals.prefill is not None
    assert signals.prefill.speed_tokens_per_s == pytest.approx(100)


def test_more_cached_than_arrived_is_nothing_to_compute() -> None:
    """The cached ones are of requests that arrived before the window."""
    told = heard(requests_arrived=1, prompt_tokens_arrived=100, prompt_tokens_cached=400)
    signals = add_up((told,), expected=1)
    assert signals is not None
    assert signals.prefill is not None
    assert signals.prefill.arrival_tokens_per_s == 0


def test_decode_hears_of_its_batch_its_kv_and_its_costs() -> None:
    full = worker(address="10.0.0.2:7000", requests_running=6, blocks_used=100, fixed_s=0.03)
    told = heard(
        worker(),
        full,
        requests_arrived=60,
        prompt_tokens_arrived=60 * 160,
        requests_ended=30,
        output_tokens=3_000,
        requests_waiting=5,
    )
    signals = add_up((told,), expected=1)
    assert signals is not None
    decode = signals.decode
    assert decode is not None
    assert decode.rows == 10
    assert decode.kv_tokens == 130 * 16
    assert decode.kv_used == pytest.approx(1.3)
    assert decode.arrival_tokens_per_s == pytest.approx(1.0 * 100)
    assert decode.kv_waiting == pytest.approx(5 * 160 / 1_600)
    assert decode.step_fixed_s == pytest.approx(0.02)


def test_a_worker_that_has_learned_nothing_yet_does_not_dilute_what_others_know() -> None:
    fresh = worker(
        address="10.0.0.2:7000",
        **dict.fromkeys(("fixed_s", "prefill_token_s", "decode_row_s", "kv_token_s"), 0.0),
    )
    signals = add_up((heard(worker(), fresh),), expected=1)
    assert signals is not None
    assert signals.decode is not None
    assert signals.prefill is not None
    assert signals.decode.step_row_s == pytest.approx(0.002)
    assert signals.prefill.speed_tokens_per_s == pytest.approx(1_000)


def test_a_burst_in_the_first_second_of_a_router_is_no_rate() -> None:
    told = heard(window_s=0.5, requests_arrived=5, prompt_tokens_arrived=500)
    signals = add_up((told,), expected=1)
    assert signals is not None
    assert signals.prefill is not None
    assert signals.prefill.arrival_tokens_per_s == pytest.approx(500 / WINDOW_MIN_S)


def test_what_arrives_lately_is_told_apart_from_what_the_minute_saw() -> None:
    """The prompts of the minute stopped but for one, and half of that one was cached."""
    stopped = heard(
        worker(),
        requests_arrived=60,
        prompt_tokens_arrived=30_000,
        requests_ended=60,
        output_tokens=600,
        lately=Lately(
            requests_arrived=1,
            prompt_tokens_arrived=400,
            prompt_tokens_cached=200,
            requests_ended=3,
            output_tokens=6,
        ),
    )
    signals = add_up((stopped, heard()), expected=2)
    assert signals is not None
    assert signals.prefill is not None
    assert signals.prefill.arrival_tokens_per_s == 500
    assert signals.prefill.lately_tokens_per_s == 200 / LATELY_S
    assert signals.decode is not None
    assert signals.decode.arrival_tokens_per_s == 10
    assert signals.decode.lately_tokens_per_s == 1 / LATELY_S * 2


def test_while_no_answer_has_ended_lately_the_minutes_are_the_guess() -> None:
    nothing = dict.fromkeys(Lately.__struct_fields__, 0)
    begun = Lately(**{**nothing, "requests_arrived": 4})
    told = heard(worker(), requests_arrived=4, requests_ended=2, output_tokens=300, lately=begun)
    signals = add_up((told,), expected=1)
    assert signals is not None
    assert signals.decode is not None
    assert signals.decode.lately_tokens_per_s == pytest.approx(4 / LATELY_S * 150)


def test_a_router_that_tells_of_the_minute_alone_is_believed() -> None:
    signals = add_up((heard(requests_arrived=6, prompt_tokens_arrived=600),), expected=1)
    assert signals is not None
    assert signals.prefill is not None
    assert signals.prefill.lately_tokens_per_s == signals.prefill.arrival_tokens_per_s == 10


def test_workers_are_found_by_the_address_of_their_pod() -> None:
    six = worker(address="[fd00::7]:7000")
    assert requests_on((worker(), six)).keys() == {"10.0.0.1", "fd00::7"}
