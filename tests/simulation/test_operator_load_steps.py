"""Load steps up and down on a virtual clock: each role follows its own part of the load."""

from dataclasses import replace

import pytest
from baton_operator.names import Role
from baton_operator.scaling import Reason
from support.serving_model import (
    IDLE,
    OUTPUT_HEAVY,
    PROMPT_HEAVY,
    TARGETS,
    Load,
    Moment,
    SimulatedService,
)

MINUTE_S = 60.0
PROMPT_SURGE = replace(PROMPT_HEAVY, requests_per_s=5 * PROMPT_HEAVY.requests_per_s)


def changes(timeline: list[Moment], role: Role) -> list[int]:
    """The numbers of replicas a role had, without repetitions."""
    counts = [moment.decisions[role].replicas for moment in timeline]
    return [one for one, before in zip(counts, [None, *counts], strict=False) if one != before]


def reasons(timeline: list[Moment], role: Role) -> set[Reason]:
    decided = (moment.decisions[role] for moment in timeline)
    return {decision.reason for decision in decided if decision.changed}


def test_long_prompts_raise_prefill_and_leave_decode_alone() -> None:
    service = SimulatedService()
    timeline = service.run(PROMPT_HEAVY, 10 * MINUTE_S)
    assert service.replicas()[Role.PREFILL] >= 4  # 32,000 tokens/s at 10,000 each
    assert changes(timeline, Role.DECODE) == [1]
    assert Reason.PROMPT_BACKLOG in reasons(timeline, Role.PREFILL)


def test_long_answers_raise_decode_and_leave_prefill_alone() -> None:
    service = SimulatedService()
    timeline = service.run(OUTPUT_HEAVY, 10 * MINUTE_S)
    assert service.replicas()[Role.DECODE] >= 2
    assert changes(timeline, Role.PREFILL) == [1]
    assert reasons(timeline, Role.DECODE) & {Reason.STEP_TIME, Reason.KV_USAGE, Reason.SLO_MISSED}


@pytest.mark.parametrize(
    ("load", "role"), [(PROMPT_HEAVY, Role.PREFILL), (OUTPUT_HEAVY, Role.DECODE)]
)
def test_a_step_up_and_down_is_followed_once_in_each_direction(load: Load, role: Role) -> None:
    service = SimulatedService()
    up = changes(service.run(load, 15 * MINUTE_S), role)
    down = changes(service.run(IDLE, 30 * MINUTE_S), role)
    raised = up[: up.index(max(up)) + 1]
    assert raised == sorted(raised)
    assert down == list(range(down[0], 0, -1)), "one replica at a time, to the minimum"
    assert changes(service.run(IDLE, 10 * MINUTE_S), role) == [1]


@pytest.mark.parametrize("load", [PROMPT_HEAVY, OUTPUT_HEAVY])
def test_under_steady_load_latency_comes_within_the_targets(load: Load) -> None:
    service = SimulatedService()
    service.run(load, 15 * MINUTE_S)
    settled = service.run(load, 5 * MINUTE_S)
    for role in (Role.PREFILL, Role.DECODE):
        assert len(changes(settled, role)) == 1
    signals = service.signals()
    assert signals is not None
    assert signals.ttft is not None
    assert signals.itl is not None
    assert min(signals.ttft.share, signals.itl.share) >= TARGETS.share


def test_a_slow_start_orders_no_more_than_a_fast_one() -> None:
    """What piles up while replicas start is what they will work off."""
    peaks = []
    for start_s in (5.0, 120.0):
        service = SimulatedService(start_s=start_s)
        timeline = service.run(PROMPT_HEAVY, 3 * MINUTE_S)
        peaks.append(max(changes(timeline, Role.PREFILL)))
    fast, slow = peaks
    assert slow <= fast + 1


def test_to_zero_together_after_idle_and_back_on_the_first_request() -> None:
    service = SimulatedService(minimum=0, start_s=20.0)
    service.run(PROMPT_HEAVY, 5 * MINUTE_S)
    quiet = service.run(IDLE, 30 * MINUTE_S)
    assert service.replicas() == {Role.PREFILL: 0, Role.DECODE: 0}
    for moment in quiet:
        zeros = [decision.replicas == 0 for decision in moment.decisions.values()]
        assert all(zeros) or not any(zeros)
    woken = service.run(OUTPUT_HEAVY, MINUTE_S)
    assert reasons(woken[:1], Role.DECODE) == {Reason.WAITING_DEMAND}
    assert service.pods[Role.DECODE].ready >= 1
    assert service.pods[Role.PREFILL].ready >= 1


def test_what_was_asked_before_a_rest_at_zero_is_not_computed_for_after_it() -> None:
    """The routers' minute still tells of the prompts when others ask again."""
    service = SimulatedService(minimum=0, start_s=5.0, idle_s=20.0)
    service.run(PROMPT_SURGE, 5 * MINUTE_S)
    rest = service.run(IDLE, 30.0)
    assert changes(rest, Role.PREFILL)[-1] == 0
    woken = service.run(OUTPUT_HEAVY, 5 * MINUTE_S)
    assert changes(woken, Role.PREFILL) == [1]
    assert service.replicas()[Role.DECODE] >= 2, "and what is asked now is followed"


def test_without_signals_everything_stays_and_nothing_is_forgotten_for_it() -> None:
    service = SimulatedService(minimum=0)
    service.run(PROMPT_HEAVY, 10 * MINUTE_S)
    before = service.replicas()
    service.lost_signals = True
    blind = service.run(IDLE, 60 * MINUTE_S)
    assert service.replicas() == before
    assert {d.reason for moment in blind for d in moment.decisions.values()} == {
        Reason.SIGNALS_MISSING
    }
    service.lost_signals = False
    first = service.run(IDLE, MINUTE_S)
    assert changes(first, Role.PREFILL) == [before[Role.PREFILL]], "an hour of silence is no vote"
