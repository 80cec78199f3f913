"""The scaling law over random histories: bounded, held, joined at zero, converging, steady."""

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from baton_operator.autoscaling import decide
from baton_operator.hysteresis import REDUCE_WINDOW_S, TOLERANCE
from baton_operator.names import Role
from baton_operator.scaling import (
    HELD_FOR_SIGNALS,
    Attainment,
    DecodeSignals,
    PrefillSignals,
    ScaledRole,
    ScalingState,
    Signals,
    Targets,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from support.serving_model import Load, SimulatedService

TARGETS = Targets(0.5, 0.05, 0.95)
STEP_S = 5.0
ROLES = (Role.PREFILL, Role.DECODE)

amounts = st.one_of(
    st.floats(0, 1e7), st.sampled_from([0.0, -1.0, math.nan, math.inf]), st.floats(0, 10)
)
attainments = st.none() | st.builds(Attainment, st.floats(0, 1), st.floats(0, 100))
prefills = st.none() | st.builds(PrefillSignals, amounts, amounts, amounts, amounts, amounts)
costs = st.floats(0, 0.1)
decodes = st.none() | st.builds(
    DecodeSignals, amounts, amounts, amounts, amounts, amounts, amounts, costs, costs, costs
)
moments = st.none() | st.builds(
    Signals,
    taken_s=st.just(0.0),  # made relative to the clock below
    routers_heard=st.integers(0, 2),
    routers_expected=st.just(2),
    requests_waiting=st.integers(0, 2),
    requests_running=st.integers(0, 2),
    prefill=prefills,
    decode=decodes,
    ttft=attainments,
    itl=attainments,
)
ages = st.sampled_from([0.0, 1.0, 10.0, 31.0, 1_000.0, -5.0])
gaps = st.sampled_from([1.0, 5.0, 20.0, 90.0, 400.0])


@st.composite
def roles(draw: st.DrawFn) -> ScaledRole:
    minimum = draw(st.integers(0, 3))
    maximum = max(1, minimum + draw(st.integers(0, 8)))
    wanted = draw(st.integers(0, 14))
    idle_s = draw(st.sampled_from([30.0, 300.0]))
    return ScaledRole(minimum, maximum, idle_s, wanted, draw(st.integers(0, wanted)))


@settings(deadline=None)
@given(
    st.fixed_dictionaries({role: roles() for role in ROLES}),
    st.lists(st.tuples(moments, ages, gaps, st.floats(0, 1)), min_size=1, max_size=30),
)
def test_whatever_is_heard_decisions_are_bounded_explained_and_joined_at_zero(
    pods: dict[Role, ScaledRole],
    history: list[tuple[Signals | None, float, float, float]],
) -> None:
    state, now_s = ScalingState(), 0.0
    for heard, age_s, gap_s, ready_share in history:
        now_s += gap_s
        signals = replace(heard, taken_s=now_s - age_s) if heard is not None else None
        outcome = decide(signals, TARGETS, pods, state, now_s)
        assert decide(signals, TARGETS, pods, state, now_s) == outcome, "the same in, the same out"
        state = outcome.state
        fresh = signals is not None and 0 <= age_s <= 30
        for role, decision in outcome.decisions.items():
            bounds = pods[role]
            assert bounds.minimum <= decision.replicas <= bounds.maximum
            assert decision.previous == bounds.wanted
            assert decision.message
            if not fresh or decision.reason in HELD_FOR_SIGNALS:
                held = min(max(bounds.wanted, bounds.minimum), bounds.maximum)
                assert decision.replicas == held
            if decision.replicas == 0:
                assert not (fresh and signals is not None and signals.demand), "it serves"
            limit = max(2 * bounds.wanted, bounds.wanted + 4, bounds.minimum)
            assert decision.replicas <= limit
            reduced = bounds.wanted - decision.replicas
            assert reduced <= 1 or decision.replicas in (0, bounds.maximum)
        _assert_joined_at_zero(pods, {r: d.replicas for r, d in outcome.decisions.items()})
        pods = {
            role: replace(bounds, wanted=replicas, ready=int(replicas * ready_share))
            for role, bounds in pods.items()
            for replicas in [outcome.decisions[role].replicas]
        }


def _assert_joined_at_zero(before: Mapping[Role, ScaledRole], after: Mapping[Role, int]) -> None:
    """A decision takes a role to zero only together with the other, if that one can go."""
    for role, other in (ROLES, ROLES[::-1]):
        left = before[role].wanted > 0 and after[role] == 0
        if left and before[other].minimum == 0:
            assert after[other] == 0


loads = st.builds(
    Load,
    requests_per_s=st.floats(0.1, 40),
    prompt_tokens=st.sampled_from([50.0, 500.0, 4_000.0]),
    output_tokens=st.sampled_from([5.0, 50.0, 300.0]),
)


@settings(deadline=None, max_examples=40)  # each example is 35 minutes of a service
@given(loads, st.sampled_from([5.0, 40.0, 120.0]))
def test_under_constant_load_it_converges_and_never_flaps(load: Load, start_s: float) -> None:
    service = SimulatedService(maximum=12, start_s=start_s)
    timeline = service.run(load, 1_500)
    for role in ROLES:
        counts = [moment.decisions[role].replicas for moment in timeline]
        assert _turns(counts) <= 1, f"up, perhaps once down, never up again: {counts}"
    settled = service.run(load, 600)
    for role in ROLES:
        assert len({moment.decisions[role].replicas for moment in settled}) == 1


def _turns(counts: list[int]) -> int:
    """How often a sequence changes its direction."""
    steps = [b - a for a, b in pairwise(counts) if a != b]
    return sum((a > 0) != (b > 0) for a, b in pairwise(steps))


@settings(deadline=None)
@given(
    need=st.floats(0.05, 11),
    noise=st.lists(st.floats(-1, 1), min_size=200, max_size=200),
    start=st.integers(1, 12),
)
def test_noise_below_tolerance_never_turns_it_twice(
    need: float, noise: list[float], start: int
) -> None:
    """A constant demand, measured with errors just below half the tolerance."""
    role = ScaledRole(1, 12, 300.0, start, start)
    state, now_s, counts = ScalingState(), 0.0, [start]
    for error in noise:
        now_s += STEP_S
        arriving = need * (1 + error * TOLERANCE * 0.45) * 0.8 * 1_000
        signals = Signals(
            now_s,
            1,
            1,
            0,
            5,
            prefill=PrefillSignals(0.0, arriving, arriving, 10.0, 1_000.0),
        )
        outcome = decide(signals, TARGETS, {Role.PREFILL: role}, state, now_s)
        state = outcome.state
        count = outcome.decisions[Role.PREFILL].replicas
        role = replace(role, wanted=count, ready=count)
        counts.append(count)
    assert _turns(counts) <= 1
    assert len(noise) * STEP_S > 3 * REDUCE_WINDOW_S
    final = counts[-1]
    assert final >= min(need * (1 - 2 * TOLERANCE), 12), "enough for the demand"


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1)), min_size=2, max_size=60))
def test_memory_stays_small(history: list[tuple[int, float]]) -> None:
    """As many entries as there are numbers of replicas, however long it goes on."""
    role, state, now_s = ScaledRole(1, 9, 300.0, 1, 1), ScalingState(), 0.0
    for load, gap in history:
        now_s += gap * 20
        arriving = load * 1_000.0
        prefill = PrefillSignals(0.0, arriving, arriving, 10.0, 1_000.0)
        signals = Signals(now_s, 1, 1, 0, 1, prefill=prefill)
        outcome = decide(signals, TARGETS, {Role.PREFILL: role}, state, now_s)
        state = outcome.state
        count = outcome.decisions[Role.PREFILL].replicas
        role = replace(role, wanted=count, ready=count)
        remembered = state.roles[Role.PREFILL]
        assert len(remembered.raises) <= role.maximum + 1
        assert len(remembered.reductions) <= role.maximum + 1
