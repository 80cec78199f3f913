"""From a need to a number of replicas that does not flap: tolerance, windows, rates. Pure.

A raise needs a short agreement and may be large; a reduction needs a long one and takes one replica
at a time, each of which drains. Knows no signals and no roles.
"""

import math
from dataclasses import replace

from baton_operator.scaling import Need, Reason, RoleState, ScaledRole, Window

TOLERANCE = 0.1
"""Relative distance between need and replicas that changes nothing: Kubernetes' own tolerance, and
more than a minute's averages of a steady load differ by."""

RAISE_WINDOW_S = 10.0
"""All proposals of this time must agree on a raise: one burst is no load."""

REDUCE_WINDOW_S = 300.0
"""All proposals of this time must agree on a reduction, as in a HorizontalPodAutoscaler: a replica
takes minutes to come back."""

REDUCE_INTERVAL_S = 30.0
"""Between two reductions: what the last one did to latency shows by then."""

RAISE_FACTOR, RAISE_STEP = 2, 4
"""One raise at most doubles the replicas or adds 4: enough for any real growth in the time a pod
takes to start, and it bounds what a wrong signal costs."""

PROPOSED_MAX = 1_000_000.0
"""More pods than a cluster has; numbers that nobody measured can ask for infinitely many."""


def propose(need: Need, wanted: int) -> int:
    """Whole replicas for a need; `wanted` itself while the need is within tolerance of it.

    Only what lasts can raise: the rest of the need is of requests that may be answered already.
    """
    lasting = min(need.lasting, need.replicas)
    if lasting > wanted * (1 + TOLERANCE):
        return math.ceil(min(lasting, PROPOSED_MAX))
    if need.replicas <= (wanted - 1) * (1 - TOLERANCE):
        return math.ceil(need.replicas / (1 - TOLERANCE))
    return wanted


def settle(
    proposal: int, role: ScaledRole, state: RoleState, now_s: float
) -> tuple[int, Reason, RoleState]:
    """The replicas to have now, and why they are not the proposal where they are not."""
    # Whoever knows nothing of the past assumes that the present number was right all along.
    raises = state.raises or ((now_s, role.wanted),)
    reductions = state.reductions or ((now_s, role.wanted),)
    raises = remember(raises, now_s, proposal, RAISE_WINDOW_S, keep_larger=False)
    reductions = remember(reductions, now_s, proposal, REDUCE_WINDOW_S, keep_larger=True)
    seen = replace(state, raises=raises, reductions=reductions)
    agreed_raise, agreed_reduction = raises[0][1], reductions[0][1]
    if agreed_raise > role.wanted:
        limit = max(role.wanted * RAISE_FACTOR, role.wanted + RAISE_STEP)
        return min(agreed_raise, limit), Reason.STEADY, replace(seen, changed_s=now_s)
    if proposal >= role.wanted:
        return role.wanted, Reason.STEADY, seen
    if agreed_reduction >= role.wanted:
        return role.wanted, Reason.STABILIZING, seen
    just_changed = state.changed_s is not None and now_s - state.changed_s < REDUCE_INTERVAL_S
    if role.starting or just_changed:
        return role.wanted, Reason.SETTLING, seen
    return role.wanted - 1, Reason.LOW_DEMAND, replace(seen, changed_s=now_s)


def remember(
    window: Window, now_s: float, proposal: int, span_s: float, *, keep_larger: bool
) -> Window:
    """The window with one more proposal; its first entry is the extreme one of the last `span_s`.

    An entry that a later one outdoes can never be the extreme again and is dropped, so that the
    window has at most as many entries as there are numbers of replicas.
    """
    sign = 1 if keep_larger else -1
    kept = [
        (time_s, count)
        for time_s, count in window
        if now_s - time_s <= span_s and sign * count > sign * proposal
    ]
    return (*kept, (now_s, proposal))
