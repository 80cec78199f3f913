"""The scaling law: (signals, bounds, state, now) -> a decision per role, with its reason. Pure.

Composed here and nowhere else, in this order: hold without signals; wake from zero; rest at zero;
need from demand; the guard on measured latency; hysteresis; bounds. Knows no Deployment and no
metrics endpoint; decides for any subset of the worker roles.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from baton_operator.demand import decode_need, prefill_need
from baton_operator.hysteresis import propose, settle
from baton_operator.names import Role
from baton_operator.scaling import (
    Attainment,
    Decision,
    Guard,
    Need,
    Reason,
    RoleState,
    ScaledRole,
    ScalingState,
    Signals,
    Targets,
)

STALE_S = 30.0
"""Signals older than this say nothing of now; they are taken every few seconds."""

GUARD_REQUESTS_MIN = 20
"""Fewer requests than this are no share: at 95 percent, one of 20 may miss."""

GUARD_NEED_MIN = 0.5
"""Of the replicas that the predicted need must fill before missed latency is blamed on load: where
most of them idle, another one would idle as well."""

GUARD_WAIT_S = 60.0
"""From a change to the first judgement of it: latency is measured over the last minute."""

GUARD_RELEASE = 0.8
"""Of the need at which the guard raised, below which it ends: further from it than TOLERANCE on
both sides, so that noise does not end it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided, and what to remember for the next time."""

    decisions: Mapping[Role, Decision]
    state: ScalingState


def decide(
    signals: Signals | None,
    targets: Targets,
    roles: Mapping[Role, ScaledRole],
    state: ScalingState,
    now_s: float,
) -> Outcome:
    """A decision for each of `roles`, which are those that the operator scales."""
    fault = signals_fault(signals, now_s)
    fresh = fault in (None, Reason.SIGNALS_INCOMPLETE)
    demand = fresh and signals is not None and signals.demand
    demand_s = last_demand(state, now_s, demand=demand or fault is not None)
    resting = is_idle(roles, now_s - demand_s)
    decisions: dict[Role, Decision] = {}
    states: dict[Role, RoleState] = {}
    for name, role in roles.items():
        old = state.roles.get(name, RoleState())
        if demand and role.wanted == 0:
            decision, new = _woken(name, role), RoleState(changed_s=now_s)
        elif fault is not None or signals is None:
            decision, new = _held(name, role, fault or Reason.SIGNALS_MISSING), _forgotten(old)
        elif role.minimum == 0 and (resting or role.wanted == 0):
            decision, new = Decision(name, role.wanted, 0, Reason.IDLE), RoleState()
        else:
            decision, new = _by_need(name, role, signals, targets, old, now_s)
        decisions[name], states[name] = bounded(decision, role), new
    return Outcome(decisions, ScalingState(demand_s, states))


def signals_fault(signals: Signals | None, now_s: float) -> Reason | None:
    """Why the signals cannot be decided by; None: they can."""
    if signals is None:
        return Reason.SIGNALS_MISSING
    if not 0 <= now_s - signals.taken_s <= STALE_S:  # also true of NaN
        return Reason.SIGNALS_STALE
    return Reason.SIGNALS_INCOMPLETE if signals.routers_heard < signals.routers_expected else None


def last_demand(state: ScalingState, now_s: float, *, demand: bool) -> float:
    """When somebody last asked; now, while that is not known. Idleness has to be seen."""
    return now_s if demand or state.demand_s is None else state.demand_s


def is_idle(roles: Mapping[Role, ScaledRole], quiet_s: float) -> bool:
    """Whether roles may go to zero: all that can go together, so that none is left without the
    other while it serves."""
    resting = [role.idle_after_s for role in roles.values() if role.minimum == 0]
    return bool(resting) and quiet_s >= max(resting)


def bounded(decision: Decision, role: ScaledRole) -> Decision:
    """The decision within the role's bounds, whatever it was."""
    if decision.replicas < role.minimum:
        return replace(decision, replicas=role.minimum, reason=Reason.BELOW_MINIMUM)
    if decision.replicas > role.maximum:
        return replace(decision, replicas=role.maximum, reason=Reason.ABOVE_MAXIMUM)
    return decision


def timed_start(state: RoleState, role: ScaledRole, now_s: float) -> RoleState:
    """What is known of how long replicas take to start: the longest it has been seen to take."""
    if not role.starting:
        return replace(state, starting_since_s=None)
    since_s = now_s if state.starting_since_s is None else state.starting_since_s
    took_s = max(now_s - since_s, state.start_s)
    return replace(state, starting_since_s=since_s, start_s=took_s)


def guarded(
    need: Need,
    measured: Attainment | None,
    targets: Targets,
    role: ScaledRole,
    state: RoleState,
    now_s: float,
) -> tuple[Need, Guard | None]:
    """The need, no lower than measured latency allows, and the guard that says so from now on."""
    guard = state.guard
    if guard is not None and need.replicas < guard.need * GUARD_RELEASE:
        guard = None
    if _is_missed(measured, targets) and need.replicas >= role.wanted * GUARD_NEED_MIN:
        waited = state.changed_s is None or now_s - state.changed_s >= GUARD_WAIT_S
        if waited and not role.starting and role.wanted < role.maximum:
            guard = Guard(role.wanted + 1, need.replicas)
        elif guard is None or guard.replicas < role.wanted:
            guard = Guard(role.wanted, need.replicas)
    if guard is None or need.replicas >= guard.replicas:
        return need, guard
    inputs = {**need.inputs, **({} if measured is None else {"attained": measured.share})}
    replicas = float(guard.replicas)
    return Need(replicas, replicas, Reason.SLO_MISSED, inputs), guard


def _is_missed(measured: Attainment | None, targets: Targets) -> bool:
    return (
        measured is not None
        and measured.sound
        and measured.requests >= GUARD_REQUESTS_MIN
        and measured.share < targets.share
    )


def _by_need(
    name: Role,
    role: ScaledRole,
    signals: Signals,
    targets: Targets,
    old: RoleState,
    now_s: float,
) -> tuple[Decision, RoleState]:
    """By what the demand needs, once hysteresis agrees."""
    old = timed_start(old, role, now_s)
    need = _need(name, role, signals, targets, old.start_s)
    if need is None:
        return _held(name, role, Reason.SIGNALS_MISSING), _forgotten(old)
    measured = signals.ttft if name is Role.PREFILL else signals.itl
    need, guard = guarded(need, measured, targets, role, old, now_s)
    # A role that serves has one replica at least; its bounds come before the windows, so that
    # these remember only what could have been done.
    lowest = max(role.minimum, 1)
    wished = propose(need, role.wanted)
    if guard is not None and guard.replicas > role.wanted:
        wished = max(wished, guard.replicas)  # one more is within tolerance of many
    proposal = min(max(wished, lowest), max(role.maximum, lowest))
    replicas, reason, new = settle(proposal, role, replace(old, guard=guard), now_s)
    if replicas > role.wanted:
        reason = need.reason
    elif wished > role.maximum:
        reason = Reason.AT_MAXIMUM
    return Decision(name, role.wanted, replicas, reason, need.inputs), new


def _need(
    name: Role, role: ScaledRole, signals: Signals, targets: Targets, start_s: float
) -> Need | None:
    """None: what the role's need follows from is missing."""
    if name is Role.PREFILL:
        told = signals.prefill
        if told is None or not told.sound:
            return None
        return prefill_need(told, targets, role, start_s)
    heard = signals.decode
    return decode_need(heard, targets, role) if heard is not None and heard.sound else None


def _held(name: Role, role: ScaledRole, reason: Reason) -> Decision:
    return Decision(name, role.wanted, role.wanted, reason)


def _woken(name: Role, role: ScaledRole) -> Decision:
    return Decision(name, 0, max(role.minimum, 1), Reason.WAITING_DEMAND)


def _forgotten(old: RoleState) -> RoleState:
    """After a gap in the signals the windows begin anew: silence is no agreement."""
    return replace(old, raises=(), reductions=())
