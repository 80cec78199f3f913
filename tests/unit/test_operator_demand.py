"""What a demand needs, in replicas, and which number says so."""

from dataclasses import replace

import pytest
from baton_operator.demand import (
    KV_UTILISATION,
    PREFILL_UTILISATION_MAX,
    RECOVERY_S,
    decode_need,
    prefill_need,
    prefill_utilisation,
    starting_credit,
)
from baton_operator.scaling import DecodeSignals, PrefillSignals, Reason, ScaledRole, Targets

TARGETS = Targets(ttft_s=1.0, itl_s=0.1, share=0.95)
SETTLED = ScaledRole(1, 20, 300.0, wanted=4, ready=4)
STARTING = replace(SETTLED, ready=1)
# Short prompts, so that the highest utilisation applies.
PROMPTS = PrefillSignals(
    backlog_tokens=0.0,
    arrival_tokens_per_s=16_000.0,
    lately_tokens_per_s=16_000.0,
    prompt_tokens=10.0,
    speed_tokens_per_s=5e3,
)
BATCH = DecodeSignals(
    arrival_tokens_per_s=0.0,
    lately_tokens_per_s=0.0,
    rows=100.0,
    kv_tokens=0.0,
    kv_used=0.4,
    kv_waiting=0.0,
    step_fixed_s=0.01,
    step_row_s=0.002,
    step_kv_token_s=0.0,
)


def prefill_needed(
    signals: PrefillSignals, role: ScaledRole = SETTLED, start_s: float = 0
) -> float:
    need = prefill_need(signals, TARGETS, role, start_s)
    assert need is not None
    assert need.reason is Reason.PROMPT_BACKLOG
    assert need.inputs["needed"] == need.replicas
    return need.replicas


def decode_needed(signals: DecodeSignals, role: ScaledRole = SETTLED) -> tuple[float, Reason]:
    need = decode_need(signals, TARGETS, role)
    assert need is not None
    return need.replicas, need.reason


def test_prompts_are_computed_as_they_arrive_with_room_to_spare() -> None:
    assert prefill_needed(PROMPTS) == pytest.approx(16_000 / 5_000 / PREFILL_UTILISATION_MAX)


def test_prompts_of_the_minute_that_arrive_no_more_do_not_last() -> None:
    need = prefill_need(replace(PROMPTS, lately_tokens_per_s=4_000.0), TARGETS, SETTLED, 0.0)
    assert need is not None
    assert need.replicas == prefill_needed(PROMPTS)
    assert need.lasting == pytest.approx(need.replicas / 4)


def test_a_burst_is_no_more_than_the_minute_says() -> None:
    need = prefill_need(replace(PROMPTS, lately_tokens_per_s=90_000.0), TARGETS, SETTLED, 0.0)
    assert need is not None
    assert need.lasting == need.replicas


def test_a_backlog_lasts_though_nothing_arrives() -> None:
    piled = replace(PROMPTS, backlog_tokens=5_000 * RECOVERY_S * 3, lately_tokens_per_s=0.0)
    need = prefill_need(piled, TARGETS, SETTLED, 0.0)
    assert need is not None
    assert need.lasting == pytest.approx(3)


def test_a_backlog_is_worked_off_in_time() -> None:
    minute_of_one = replace(PROMPTS, backlog_tokens=5_000 * RECOVERY_S * 3)
    assert prefill_needed(minute_of_one) == pytest.approx(16_000 / 5_000 + 3)


def test_a_backlog_the_room_to_spare_works_off_needs_nobody_else() -> None:
    little = replace(PROMPTS, backlog_tokens=5_000 * RECOVERY_S * 0.5)
    assert prefill_needed(little) == prefill_needed(PROMPTS)


def test_what_piles_up_while_replicas_start_counts_by_those_that_work() -> None:
    piled = replace(PROMPTS, backlog_tokens=5_000 * RECOVERY_S * 4)
    assert starting_credit(STARTING) == 0.25
    assert prefill_needed(piled, STARTING) == pytest.approx(16_000 / 5_000 + 1)
    assert prefill_needed(piled) == pytest.approx(16_000 / 5_000 + 4)


def test_replicas_that_take_long_to_start_are_not_ordered_for_what_is_gone_by_then() -> None:
    piled = replace(PROMPTS, backlog_tokens=5_000 * RECOVERY_S * 4)
    assert prefill_needed(piled, start_s=4 * RECOVERY_S) == pytest.approx(16_000 / 5_000 + 1)


@pytest.mark.parametrize(
    ("prompt_s", "utilisation"),
    [
        pytest.param(0.01, 0.8, id="short-prompts-at-most"),
        pytest.param(0.4, 0.6, id="the-queue-may-take-what-the-prompt-leaves"),
        pytest.param(0.9, 0.2, id="long-prompts-at-least"),
        pytest.param(2.0, 0.2, id="no-replicas-help-a-prompt-beyond-the-target"),
    ],
)
def test_the_target_decides_how_busy_prefill_may_be(prompt_s: float, utilisation: float) -> None:
    assert prefill_utilisation(prompt_s, ttft_s=1.0) == pytest.approx(utilisation)


def test_without_a_measured_speed_nothing_is_said() -> None:
    assert prefill_need(replace(PROMPTS, speed_tokens_per_s=0.0), TARGETS, SETTLED, 0.0) is None


def test_decode_needs_replicas_enough_that_steps_meet_the_target() -> None:
    needed, reason = decode_needed(BATCH)
    assert reason is Reason.STEP_TIME
    # On 4 replicas a step takes 60 ms and 100 rows make 1667 tokens a second, each 2 ms of work;
    # on m replicas it takes 10 ms * m / (m - 3.33), which is 90 ms at m = 3.75.
    assert needed == pytest.approx(3.75)


def test_the_need_does_not_depend_on_who_serves_it() -> None:
    """The same tokens per second on 8 replicas: fewer rows in flight, and the same need."""
    step_s = 0.01 * 8 / (8 - 10 / 3)
    on_eight = replace(BATCH, rows=100 / 0.06 * step_s)
    needed, _ = decode_needed(on_eight, replace(SETTLED, wanted=8, ready=8))
    assert needed == pytest.approx(3.75)


def test_overloaded_replicas_are_judged_by_what_is_asked_of_them() -> None:
    asked = replace(BATCH, arrival_tokens_per_s=3_000.0)
    needed, _ = decode_needed(asked)
    assert needed == pytest.approx(3_000 * 0.002 / (1 - 0.01 / 0.09))


def test_requests_of_the_minute_that_come_no_more_do_not_last_but_the_batch_does() -> None:
    need = decode_need(replace(BATCH, arrival_tokens_per_s=3_000.0), TARGETS, SETTLED)
    assert need is not None
    assert need.replicas > need.lasting
    assert need.lasting == pytest.approx(decode_needed(BATCH)[0])


def test_decode_needs_replicas_enough_that_the_kv_fits() -> None:
    full = replace(BATCH, step_row_s=0.00001, kv_used=4.0)
    needed, reason = decode_needed(full)
    assert reason is Reason.KV_USAGE
    assert needed == pytest.approx(4.0 / KV_UTILISATION, rel=0.02)  # steps take their fixed part


def test_requests_that_wait_for_blocks_count_by_the_replicas_that_work() -> None:
    waiting = replace(BATCH, step_row_s=0.00001, kv_waiting=8.0)
    settled, _ = decode_needed(waiting)
    starting, _ = decode_needed(waiting, STARTING)
    assert settled - starting == pytest.approx(8.0 * 0.75 / KV_UTILISATION, rel=0.05)


def test_where_no_replicas_reach_the_target_steps_ask_for_none() -> None:
    slow = replace(BATCH, step_fixed_s=0.5)
    _, reason = decode_needed(slow)
    assert reason is Reason.KV_USAGE


@pytest.mark.parametrize(
    ("signals", "role"),
    [
        pytest.param(BATCH, replace(SETTLED, ready=0), id="nobody-serves"),
        pytest.param(
            replace(BATCH, step_fixed_s=0.0, step_row_s=0.0, rows=0.0), SETTLED, id="no-cost-model"
        ),
    ],
)
def test_without_a_measured_step_nothing_is_said(signals: DecodeSignals, role: ScaledRole) -> None:
    assert decode_need(signals, TARGETS, role) is None
