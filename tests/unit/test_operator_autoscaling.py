"""One situation, one decision, one reason: the rules of the scaling law."""

import math
from dataclasses import replace
from typing import Any

import pytest
from baton_operator.autoscaling import GUARD_WAIT_S, STALE_S, Outcome, decide
from baton_operator.hysteresis import (
    RAISE_WINDOW_S,
    REDUCE_INTERVAL_S,
    REDUCE_WINDOW_S,
)
from baton_operator.names import Role
from baton_operator.scaling import (
    Attainment,
    Decision,
    DecodeSignals,
    PrefillSignals,
    Reason,
    ScaledRole,
    ScalingState,
    Signals,
    Targets,
)

TARGETS = Targets(ttft_s=1.0, itl_s=0.1, share=0.95)
SPEED = 1_000.0
PER_REPLICA = SPEED * 0.8  # tokens per second that one prefill worker is planned with
DECODE = DecodeSignals(100.0, 100.0, 1.0, 10.0, 0.1, 0.0, 0.01, 0.0001, 0.0)
NOW_S = 5_000.0
IDLE_S = 300.0


def heard(load: float = 1.0, **changes: Any) -> Signals:
    """Signals of a demand that needs `load` prefill replicas."""
    prefill = PrefillSignals(0.0, load * PER_REPLICA, load * PER_REPLICA, 10.0, SPEED)
    signals = Signals(NOW_S, 1, 1, 0, 3, prefill=prefill, decode=DECODE)
    return replace(signals, **changes)


def pods(wanted: int, ready: int | None = None, minimum: int = 1, maximum: int = 10) -> ScaledRole:
    return ScaledRole(minimum, maximum, IDLE_S, wanted, wanted if ready is None else ready)


class Story:
    """One role's decisions in time; its pods follow at once unless told otherwise."""

    def __init__(self, role: ScaledRole) -> None:
        self.role, self.state, self.now_s = role, ScalingState(), NOW_S

    def after(self, wait_s: float, signals: Signals | None, ready: int | None = None) -> Decision:
        self.now_s += wait_s
        if signals is not None:
            signals = replace(signals, taken_s=self.now_s)
        roles = {Role.PREFILL: self.role}
        outcome = decide(signals, TARGETS, roles, self.state, self.now_s)
        self.state = outcome.state
        decision = outcome.decisions[Role.PREFILL]
        count = decision.replicas
        self.role = replace(self.role, wanted=count, ready=count if ready is None else ready)
        return decision


def once(signals: Signals | None, **roles: ScaledRole) -> Outcome:
    named = {Role(name): role for name, role in roles.items()}
    return decide(signals, TARGETS, named, ScalingState(), NOW_S)


def test_a_raise_needs_agreement_for_a_moment() -> None:
    story = Story(pods(2))
    assert story.after(0, heard(4.0)).reason is Reason.STEADY
    decision = story.after(RAISE_WINDOW_S + 1, heard(4.0))
    assert (decision.replicas, decision.reason) == (4, Reason.PROMPT_BACKLOG)
    assert "prefill 2 to 4: backlog_tokens 0, arrival_tokens_per_s 3200" in decision.message


def test_load_that_has_stopped_is_no_reason_to_raise_and_none_to_reduce_at_once() -> None:
    stopped = replace(heard(4.0), prefill=PrefillSignals(0.0, 4 * PER_REPLICA, 0.0, 10.0, SPEED))
    story = Story(pods(2))
    story.after(0, stopped)
    decision = story.after(RAISE_WINDOW_S + 1, stopped)
    assert (decision.replicas, decision.reason) == (2, Reason.STEADY)


def test_one_burst_is_no_load() -> None:
    story = Story(pods(2))
    story.after(0, heard(2.0))
    story.after(5, heard(9.0))
    story.after(5, heard(2.0))
    assert story.after(5, heard(9.0)).replicas == 2


def test_a_raise_at_most_doubles_or_adds_four() -> None:
    for wanted, most in ((1, 5), (8, 16)):
        story = Story(pods(wanted, maximum=100))
        story.after(0, heard(90.0))
        assert story.after(RAISE_WINDOW_S + 1, heard(90.0)).replicas == most


def test_a_reduction_needs_agreement_for_long() -> None:
    story = Story(pods(4))
    story.after(0, heard(1.5))
    decision = story.after(REDUCE_WINDOW_S - 1, heard(1.5))
    assert (decision.replicas, decision.reason) == (4, Reason.STABILIZING)
    decision = story.after(2, heard(1.5))
    assert (decision.replicas, decision.reason) == (3, Reason.LOW_DEMAND)


def test_reductions_go_one_at_a_time_with_a_pause() -> None:
    story = Story(pods(4))
    story.after(0, heard(0.5))
    assert story.after(REDUCE_WINDOW_S + 1, heard(0.5)).replicas == 3
    decision = story.after(REDUCE_INTERVAL_S - 1, heard(0.5))
    assert (decision.replicas, decision.reason) == (3, Reason.SETTLING)
    assert story.after(2, heard(0.5)).replicas == 2
    assert story.after(REDUCE_INTERVAL_S + 1, heard(0.5)).replicas == 1
    assert story.after(REDUCE_INTERVAL_S + 1, heard(0.5)).replicas == 1, "it serves"


def test_one_look_at_more_load_stops_a_reduction() -> None:
    story = Story(pods(4))
    story.after(0, heard(0.5))
    story.after(200, heard(4.0))
    assert story.after(150, heard(0.5)).reason is Reason.STABILIZING
    assert story.after(200, heard(0.5)).reason is Reason.LOW_DEMAND


def test_while_replicas_start_none_is_taken_away() -> None:
    story = Story(pods(4, ready=3))
    story.after(0, heard(0.5), ready=3)
    decision = story.after(REDUCE_WINDOW_S + 1, heard(0.5))
    assert (decision.replicas, decision.reason) == (4, Reason.SETTLING)


@pytest.mark.parametrize(
    ("signals", "reason"),
    [
        pytest.param(None, Reason.SIGNALS_MISSING, id="none"),
        pytest.param(heard(9, taken_s=NOW_S - STALE_S - 1), Reason.SIGNALS_STALE, id="old"),
        pytest.param(heard(9, taken_s=NOW_S + 1), Reason.SIGNALS_STALE, id="of-the-future"),
        pytest.param(heard(9, taken_s=math.nan), Reason.SIGNALS_STALE, id="of-no-time"),
        pytest.param(heard(9, routers_expected=2), Reason.SIGNALS_INCOMPLETE, id="one-router"),
        pytest.param(heard(9, prefill=None), Reason.SIGNALS_MISSING, id="not-this-role"),
        pytest.param(
            heard(9, prefill=PrefillSignals(0, math.nan, 0, 10, SPEED)),
            Reason.SIGNALS_MISSING,
            id="no-number",
        ),
        pytest.param(
            heard(9, prefill=PrefillSignals(-1, 0, 0, 10, SPEED)),
            Reason.SIGNALS_MISSING,
            id="negative",
        ),
        pytest.param(
            heard(9, prefill=PrefillSignals(0, 5, 5, 10, 0)), Reason.SIGNALS_MISSING, id="no-speed"
        ),
    ],
)
def test_without_good_signals_the_number_is_held(signals: Signals | None, reason: Reason) -> None:
    decision = once(signals, prefill=pods(3)).decisions[Role.PREFILL]
    assert (decision.replicas, decision.reason) == (3, reason)


def test_one_roles_missing_signals_hold_only_that_role() -> None:
    story = ScalingState()
    roles = {Role.PREFILL: pods(3), Role.DECODE: pods(3)}
    for wait_s in (0.0, RAISE_WINDOW_S + 1):
        signals = heard(9.0, decode=None, taken_s=NOW_S + wait_s)
        outcome = decide(signals, TARGETS, roles, story, NOW_S + wait_s)
        story = outcome.state
    assert outcome.decisions[Role.PREFILL].replicas > 3
    assert outcome.decisions[Role.DECODE].reason is Reason.SIGNALS_MISSING


def test_silence_is_no_agreement_to_a_reduction() -> None:
    story = Story(pods(4))
    story.after(0, heard(0.5))
    story.after(100, None)
    assert story.after(REDUCE_WINDOW_S, heard(0.5)).reason is Reason.STABILIZING


@pytest.mark.parametrize(
    ("wanted", "replicas", "reason"),
    [(1, 2, Reason.BELOW_MINIMUM), (9, 5, Reason.ABOVE_MAXIMUM), (0, 2, Reason.BELOW_MINIMUM)],
)
@pytest.mark.parametrize("signals", [None, heard(3.0, requests_running=0)])
def test_bounds_hold_at_once_and_without_signals(
    signals: Signals | None, wanted: int, replicas: int, reason: Reason
) -> None:
    decision = once(signals, prefill=pods(wanted, minimum=2, maximum=5)).decisions[Role.PREFILL]
    assert (decision.replicas, decision.reason) == (replicas, reason)


QUIET = {"requests_waiting": 0, "requests_running": 0}


def test_roles_that_may_go_to_zero_together_after_idleness() -> None:
    roles = {Role.PREFILL: pods(3, minimum=0), Role.DECODE: pods(2, minimum=0)}
    state = ScalingState()
    for wait_s, expected in ((0.0, [3, 2]), (IDLE_S - 1, [3, 2]), (IDLE_S, [0, 0])):
        signals = heard(2.0, taken_s=NOW_S + wait_s, **QUIET)
        outcome = decide(signals, TARGETS, roles, state, NOW_S + wait_s)
        state = outcome.state
        counts = [outcome.decisions[role].replicas for role in roles]
        assert counts == expected
    assert {decision.reason for decision in outcome.decisions.values()} == {Reason.IDLE}


def test_a_role_with_a_minimum_stays_when_the_other_rests() -> None:
    roles = {Role.PREFILL: pods(1, minimum=0), Role.DECODE: pods(1, minimum=1)}
    state = ScalingState(demand_s=NOW_S - IDLE_S)
    outcome = decide(heard(0.0, **QUIET), TARGETS, roles, state, NOW_S)
    assert outcome.decisions[Role.PREFILL].replicas == 0
    assert outcome.decisions[Role.DECODE].replicas == 1


def test_idleness_has_to_be_seen() -> None:
    story = Story(pods(1, minimum=0))
    story.after(0, heard(0.0, **QUIET))
    story.after(IDLE_S - 1, None)  # who knows
    assert story.after(10, heard(0.0, **QUIET)).replicas == 1
    assert story.after(IDLE_S, heard(0.0, **QUIET)).reason is Reason.IDLE


def test_a_request_keeps_every_role_up() -> None:
    story = Story(pods(1, minimum=0))
    story.after(0, heard(0.0, **QUIET))
    story.after(IDLE_S - 1, heard(0.0, requests_running=1))
    assert story.after(10, heard(0.0, **QUIET)).replicas == 1


@pytest.mark.parametrize("change", [{}, {"prefill": None, "decode": None}, {"routers_expected": 5}])
def test_a_waiting_request_wakes_every_role_from_zero(change: dict[str, Any]) -> None:
    signals = heard(0.0, requests_running=0, requests_waiting=1, **change)
    roles = {"prefill": pods(0, minimum=0), "decode": pods(0, minimum=0)}
    for decision in once(signals, **roles).decisions.values():
        assert (decision.replicas, decision.reason) == (1, Reason.WAITING_DEMAND)


def test_a_role_at_zero_is_woken_even_if_the_other_serves_alone() -> None:
    outcome = once(heard(1.0), prefill=pods(0, minimum=0), decode=pods(2))
    assert outcome.decisions[Role.PREFILL].reason is Reason.WAITING_DEMAND


def test_nobody_asks_and_zero_stays_zero() -> None:
    for signals in (heard(0.0, **QUIET), None):
        outcome = once(signals, prefill=pods(0, minimum=0), decode=pods(0, minimum=0))
        assert [decision.replicas for decision in outcome.decisions.values()] == [0, 0]


MISSED = {"ttft": Attainment(0.80, 100)}
MET = {"ttft": Attainment(0.99, 100)}


def test_missed_latency_asks_for_one_more_than_predicted() -> None:
    story = Story(pods(2))
    story.after(0, heard(1.8, **MISSED))
    decision = story.after(RAISE_WINDOW_S + 1, heard(1.8, **MISSED))
    assert (decision.replicas, decision.reason) == (3, Reason.SLO_MISSED)
    assert decision.inputs["attained"] == 0.80


def test_one_more_of_many_is_not_lost_in_tolerance() -> None:
    story = Story(pods(15, maximum=30))
    story.after(0, heard(14.0, **MISSED))
    assert story.after(RAISE_WINDOW_S + 1, heard(14.0, **MISSED)).replicas == 16


def test_the_guard_waits_to_see_what_its_last_step_did() -> None:
    story = Story(pods(2))
    story.after(0, heard(2.0, **MISSED))
    story.after(RAISE_WINDOW_S + 1, heard(2.0, **MISSED))
    for _ in range(5):
        assert story.after(GUARD_WAIT_S / 5 - 1, heard(2.0, **MISSED)).replicas == 3
    story.after(10, heard(2.0, **MISSED))
    assert story.after(RAISE_WINDOW_S + 1, heard(2.0, **MISSED)).replicas == 4


@pytest.mark.parametrize(
    ("load", "measured"),
    [
        pytest.param(1.8, Attainment(0.80, 19), id="too-few-requests"),
        pytest.param(1.8, Attainment(0.96, 100), id="within-the-promise"),
        pytest.param(0.9, Attainment(0.10, 100), id="load-is-not-why"),
        pytest.param(1.8, Attainment(math.nan, 100), id="no-number"),
        pytest.param(1.8, None, id="not-measured"),
    ],
)
def test_the_guard_needs_a_case(load: float, measured: Attainment | None) -> None:
    story = Story(pods(2))
    story.after(0, heard(load, ttft=measured))
    assert story.after(RAISE_WINDOW_S + 1, heard(load, ttft=measured)).replicas == 2


def test_what_the_guard_asked_for_stays_until_demand_falls() -> None:
    story = Story(pods(2))
    story.after(0, heard(1.8, **MISSED))
    assert story.after(RAISE_WINDOW_S + 1, heard(1.8, **MISSED)).replicas == 3
    for _ in range(20):
        assert story.after(60, heard(1.8, **MET)).replicas == 3
    for _ in range(20):
        decision = story.after(60, heard(1.2, **MET))
    assert decision.replicas == 2


def test_what_the_guard_asked_for_outlives_the_measurement() -> None:
    story = Story(pods(2))
    story.after(0, heard(1.8, **MISSED))
    story.after(RAISE_WINDOW_S + 1, heard(1.8, **MISSED))
    for _ in range(20):
        assert story.after(60, heard(1.8, ttft=None)).replicas == 3


def test_a_demand_beyond_the_maximum_is_told() -> None:
    decision = once(heard(9.0), prefill=pods(4, maximum=4)).decisions[Role.PREFILL]
    assert (decision.replicas, decision.reason) == (4, Reason.AT_MAXIMUM)
    assert decision.inputs["needed"] == pytest.approx(9.0)


def test_the_guard_stops_at_the_maximum() -> None:
    story = Story(pods(3, maximum=3))
    for _ in range(10):
        assert story.after(GUARD_WAIT_S, heard(2.9, **MISSED)).replicas == 3


def test_memory_of_a_decision_does_not_change_the_one_before() -> None:
    signals, roles, state = heard(9.0), {Role.PREFILL: pods(2)}, ScalingState()
    first = decide(signals, TARGETS, roles, state, NOW_S)
    assert state == ScalingState()
    assert decide(signals, TARGETS, roles, state, NOW_S) == first
