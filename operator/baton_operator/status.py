"""From observations to the status of a ModelService, and the Events of what has changed. Pure.

Conditions keep their transition time until their status changes, so a status computed twice from
the same world is the same status and need not be written. Knows no clock and no API server.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from baton.common.errors import InvalidSpec

from baton_operator.api import ModelServiceSpec
from baton_operator.desired import roles_of, worker_role
from baton_operator.manifest import Manifest, mapping_at
from baton_operator.names import WORKER_ROLES, Owner, Role
from baton_operator.observe import RoleObservation
from baton_operator.reading import read
from baton_operator.scaling import HELD_FOR_SIGNALS, Decision
from baton_operator.statusapi import (
    HISTORY_MAX,
    MESSAGE_CHARS_MAX,
    Condition,
    ConditionStatus,
    ModelServiceStatus,
    RoleStatus,
    ScalingRecord,
)

READY = "Ready"
SCALING_ACTIVE = "ScalingActive"
# kstatus reads these two, and they are the other way round: True is what needs attention.
RECONCILING = "Reconciling"
STALLED = "Stalled"
ROLE_CONDITIONS: Final[Mapping[Role, str]] = {
    Role.ROUTER: "RouterReady",
    Role.PREFILL: "PrefillReady",
    Role.DECODE: "DecodeReady",
}

# Reasons of a condition that is False for now, in the course of things.
_PASSING: Final = frozenset({"Pending", "Starting", "FixedReplicas", "ExternallyScaled"})

_MOVING: Final = frozenset({"Pending", "Starting", "RollingOut", "ScalingUp"})
"""Reasons of a role that is on its way to where the spec wants it."""

_TRUE, _FALSE, _UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to say of one condition, before it is known when that began."""

    status: ConditionStatus
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has changed, for the Events of the ModelService."""

    warning: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class World:
    """All that a status is made from."""

    owner: Owner
    generation: int
    spec: ModelServiceSpec | None  # None: it cannot be understood, and `problems` say why
    problems: tuple[str, ...] = ()
    roles: Mapping[Role, RoleObservation] = field(default_factory=dict)
    decisions: Sequence[Decision] = ()
    conflicts: tuple[str, ...] = ()  # objects of others that have our names
    refusals: tuple[str, ...] = ()  # what the API server said of objects it did not take


def build_status(
    world: World, previous: ModelServiceStatus, now: str
) -> tuple[ModelServiceStatus, tuple[Event, ...]]:
    """The status, and the Events since `previous`. `now` is an RFC 3339 time."""
    findings = _findings(world)
    before = {condition.type: condition for condition in previous.conditions}
    conditions = tuple(
        _condition(kind, finding, before.get(kind), world.generation, now)
        for kind, finding in findings.items()
    )
    records = [_record(decision, now) for decision in world.decisions if decision.changed]
    status = ModelServiceStatus(
        observed_generation=world.generation,
        conditions=conditions,
        endpoint=world.owner.endpoint,
        scaling_history=(*records, *previous.scaling_history)[:HISTORY_MAX],
        **{
            role.value: _role_status(world.roles[role], findings[ROLE_CONDITIONS[role]])
            for role in Role
            if role in world.roles
        },
    )
    return status, (*_transitions(conditions, before), *map(_scaling_event, records))


def previous_status(resource: Manifest) -> ModelServiceStatus:
    """The status that stands in a ModelService; an empty one where it cannot be read: a status is
    an observation, and can always be made anew."""
    try:
        return read(ModelServiceStatus, mapping_at(resource, "status"), path="status")
    except InvalidSpec:
        return ModelServiceStatus()


def _findings(world: World) -> dict[str, Finding]:
    """Every condition, always: a reader must not have to know which ones there could be."""
    if world.spec is None:
        said = _shortened("; ".join(world.problems))
        unknown = Finding(_UNKNOWN, "InvalidSpec", "the spec cannot be understood")
        kinds = (*ROLE_CONDITIONS.values(), SCALING_ACTIVE)
        return {
            READY: Finding(_FALSE, "InvalidSpec", said),
            **dict.fromkeys(kinds, unknown),
            RECONCILING: Finding(_FALSE, "InvalidSpec", "the pods of the last good spec stay"),
            STALLED: Finding(_TRUE, "InvalidSpec", said),
        }
    roles = {role: _role_finding(world, world.spec, role) for role in Role}
    stalled = _stalled_finding(world, roles)
    return {
        READY: _ready_finding(world, roles),
        **{ROLE_CONDITIONS[role]: finding for role, finding in roles.items()},
        SCALING_ACTIVE: _scaling_finding(world, world.spec),
        RECONCILING: _reconciling_finding(roles, stalled),
        STALLED: stalled,
    }


def _stalled_finding(world: World, roles: Mapping[Role, Finding]) -> Finding:
    """What will not get better by itself: a person or another spec is needed."""
    ready = _ready_finding(world, roles)
    if world.conflicts or world.refusals:
        return Finding(_TRUE, ready.reason, ready.message)
    for role, seen in world.roles.items():
        if seen.trouble is not None:
            found = roles[role]
            return Finding(_TRUE, found.reason, _shortened(f"{role.value}: {found.message}"))
    return Finding(_FALSE, "Healthy", "nothing stands in the way")


def _reconciling_finding(roles: Mapping[Role, Finding], stalled: Finding) -> Finding:
    moving = {role: finding for role, finding in roles.items() if finding.reason in _MOVING}
    if stalled.status is _TRUE or not moving:
        return Finding(_FALSE, "Settled", "nothing is under way")
    said = ", ".join(f"{role.value}: {finding.reason}" for role, finding in moving.items())
    return Finding(_TRUE, next(iter(moving.values())).reason, _shortened(said))


def _ready_finding(world: World, roles: Mapping[Role, Finding]) -> Finding:
    """Ready when every role is; the reason is that of the first that is not."""
    if world.conflicts:
        names = ", ".join(world.conflicts)
        said = f"these objects have our names and another owner: {names}; rename or delete them"
        return Finding(_FALSE, "NameTaken", _shortened(said))
    if world.refusals:
        said = "; ".join(world.refusals)
        return Finding(_FALSE, "ApplyRefused", _shortened(f"the API server refuses: {said}"))
    for role, finding in roles.items():
        if finding.status is not _TRUE:
            return Finding(_FALSE, finding.reason, _shortened(f"{role.value}: {finding.message}"))
    return Finding(_TRUE, "Ready", "every role is ready")


def _role_finding(world: World, spec: ModelServiceSpec, role: Role) -> Finding:
    if role not in roles_of(spec):
        return Finding(_TRUE, "NotWanted", "decode computes the prompts")
    seen = world.roles.get(role, RoleObservation())
    ready = f"{seen.ready} of {seen.wanted} pods are ready"
    if seen.trouble is not None:
        serving = f"; {seen.ready} pods keep serving" if seen.ready else ""
        return Finding(_FALSE, seen.trouble.reason, _shortened(seen.trouble.message, serving))
    if not seen.current and seen.ready == 0:
        return Finding(_FALSE, "Pending", "the Deployment has not been looked at yet")
    if seen.wanted == 0:
        return Finding(_TRUE, "ScaledToZero", "the first request starts a pod")
    if seen.ready == 0:
        return Finding(_FALSE, "Starting", ready)
    if not seen.current or seen.updated < seen.wanted:
        return Finding(_TRUE, "RollingOut", f"{ready}, {seen.updated} of them are new")
    if seen.ready < seen.wanted:
        return Finding(_TRUE, "ScalingUp", ready)
    return Finding(_TRUE, "AllReady", ready)


def _scaling_finding(world: World, spec: ModelServiceSpec) -> Finding:
    workers = [worker for role in WORKER_ROLES if (worker := worker_role(spec, role)) is not None]
    if not any(worker.internal for worker in workers):
        if any(worker.external for worker in workers):
            return Finding(_FALSE, "ExternallyScaled", "an autoscaler on the Deployment decides")
        return Finding(_FALSE, "FixedReplicas", "the spec fixes the number of pods")
    held = [decision for decision in world.decisions if decision.reason in HELD_FOR_SIGNALS]
    if held:
        roles = ", ".join(decision.role.value for decision in held)
        return Finding(_FALSE, held[0].reason.value, f"the number of pods is held: {roles}")
    if not world.decisions:
        return Finding(_UNKNOWN, "Pending", "nothing has been decided yet")
    return Finding(_TRUE, "Deciding", "the routers' signals decide the number of pods")


def _condition(
    kind: str, finding: Finding, before: Condition | None, generation: int, now: str
) -> Condition:
    unchanged = before is not None and before.status is finding.status
    return Condition(
        type=kind,
        status=finding.status,
        reason=finding.reason,
        message=finding.message,
        observed_generation=generation,
        last_transition_time=before.last_transition_time if before and unchanged else now,
    )


def _role_status(seen: RoleObservation, finding: Finding) -> RoleStatus:
    return RoleStatus(
        replicas=seen.replicas,
        ready=seen.ready,
        desired=seen.wanted,
        ready_of_desired=f"{seen.ready}/{seen.wanted}",
        reason=finding.reason,
    )


def _record(decision: Decision, now: str) -> ScalingRecord:
    return ScalingRecord(
        time=now,
        role=decision.role.value,
        previous=decision.previous,
        desired=decision.replicas,
        reason=decision.reason.value,
        message=_shortened(decision.message),
    )


def _scaling_event(record: ScalingRecord) -> Event:
    up = record.desired > record.previous
    return Event(
        warning=False,
        reason="ScaledUp" if up else "ScaledDown",
        message=f"{record.message} ({record.reason})",
    )


def _transitions(
    conditions: Sequence[Condition], before: Mapping[str, Condition]
) -> tuple[Event, ...]:
    """One Event per condition whose status or reason is another one; messages alone are no news.

    Ready follows from the others and tells only when it turns; Reconciling and Stalled say again,
    for machines, what the others have said.
    """
    events = []
    for now in conditions:
        if now.type in (RECONCILING, STALLED):
            continue
        then = before.get(now.type)
        same_status = then is not None and then.status is now.status
        same_reason = then is not None and then.reason == now.reason
        if now.status is _UNKNOWN or (same_status and (same_reason or now.type == READY)):
            continue
        warning = now.status is _FALSE and now.reason not in _PASSING
        reason = now.reason
        if now.type == READY:
            reason = "ServiceReady" if now.status is _TRUE else "ServiceNotReady"
        events.append(Event(warning, reason, f"{now.type}: {now.message}"))
    return tuple(events)


def _shortened(message: str, ending: str = "") -> str:
    """Within the CRD's limit; the ending stays."""
    return message[: MESSAGE_CHARS_MAX - len(ending)] + ending
