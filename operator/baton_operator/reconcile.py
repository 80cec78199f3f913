"""One pass over one ModelService: observe, decide, make it so, say so. From the level, never the
edge.

Whatever a pass needs it reads anew; what it remembers between passes is only what the scaling law
remembers, and forgetting it costs time. A pass that is not due to anything but the clock looks at
the routers' signals, and now and then at the Secrets. Knows the steps; how each is done is
elsewhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from baton.common.clock import Clock
from baton.common.errors import InvalidSpec
from baton.common.logs import get_log

from baton_operator.api import ModelServiceSpec, parse_service
from baton_operator.autoscaling import Outcome, decide
from baton_operator.carrying import Done, carry_out
from baton_operator.desired import desired_manifests, roles_of
from baton_operator.diff import diff
from baton_operator.identity import ensure_identity
from baton_operator.kinds import Kind
from baton_operator.kube import Kube
from baton_operator.manifest import Manifest, int_at, text_at
from baton_operator.metrics import OperatorMetrics
from baton_operator.names import Owner, Role
from baton_operator.observe import RoleObservation, Trouble
from baton_operator.observing import (
    Observation,
    observe_keys,
    observe_service,
    read_namesakes,
    router_hosts,
)
from baton_operator.pace import spread_s
from baton_operator.pods import ReleaseImages
from baton_operator.policy import applied_replicas, scaled_roles, targets_of
from baton_operator.reporting import Reporter
from baton_operator.scaling import Decision, ScalingState
from baton_operator.signals import Heard, add_up, distinct_workers, requests_on
from baton_operator.status import World
from baton_operator.workqueue import Key

TICK_S = 5.0
"""Between two decisions about a service that scales: its routers' signals are worth as much."""

RESYNC_S = 600.0
"""Between two looks at a service nothing has happened to, in case something was missed."""

IDENTITY_S = 60.0
"""Between two looks at a service's Secrets, of which nothing is told: watching its own would take
the right to list everybody's. Two reads by name each, three where clients have keys."""

_log = get_log(__name__)


class Collector(Protocol):
    """Asks routers for their signals."""

    async def collect(self, hosts: Sequence[str]) -> tuple[Heard, ...]: ...


@dataclass(frozen=True, slots=True)
class View:
    """A service as its last full pass saw it."""

    owner: Owner
    spec: ModelServiceSpec
    resource: Manifest
    roles: Mapping[Role, RoleObservation]
    routers: tuple[str, ...]
    conflicts: tuple[str, ...]
    seen_s: float


@dataclass(slots=True)
class Memory:
    """What is remembered of a service between passes."""

    uid: str
    scaling: ScalingState = field(default_factory=ScalingState)
    view: View | None = None  # of the last full pass, if nothing was refused
    current: bool = False  # nothing has been noticed since that pass began
    identity_s: float = 0.0  # when its Secrets were last looked at
    strangers: tuple[str, ...] = ()  # under their names, and somebody else's
    keys: Trouble | None = None  # with the Secret of clients' keys
    unrecorded: tuple[Decision, ...] = ()  # made so, and not in a status yet


class Reconciler:
    """Makes passes. One at a time for a service; any number of services at once."""

    def __init__(
        self,
        kube: Kube,
        collector: Collector,
        reporter: Reporter,
        metrics: OperatorMetrics,
        release: ReleaseImages,
        clock: Clock,
        luck: Callable[[], float],
    ) -> None:
        self._kube = kube
        self._collector = collector
        self._reporter = reporter
        self._metrics = metrics
        self._release = release
        self._clock = clock
        self._luck = luck
        self._memories: dict[Key, Memory] = {}  # of existing services; a pass drops the others

    def notice(self, key: Key) -> None:
        """Something of the service has changed: its next pass looks at everything."""
        memory = self._memories.get(key)
        if memory is not None:
            memory.current = False

    async def __call__(self, key: Key) -> float | None:
        """One pass; the seconds until the next one is due, None for never.

        Raises ApiFailure when the API server did not let it be finished.
        """
        memory = self._memories.get(key)
        now_s = self._clock.monotonic_s()
        view = memory.view if memory is not None and memory.current else None
        recent = view is not None and now_s - view.seen_s < RESYNC_S
        if memory is not None and view is not None and recent and await self._glance(memory, view):
            return self._pause_s(view)
        return await self._full_pass(key)

    async def _glance(self, memory: Memory, view: View) -> bool:
        """Look at what nobody tells of; False: a full pass is needed."""
        if self._clock.monotonic_s() - memory.identity_s >= IDENTITY_S:
            before = memory.strangers, memory.keys
            await self._look_at_secrets(memory, view.owner, view.spec)
            if before != (memory.strangers, memory.keys):
                return False
        return await self._tick(memory, view)

    def _pause_s(self, view: View) -> float:
        """Until the next glance at a service nothing happens to."""
        scales = scaled_roles(view.spec, view.roles)
        return TICK_S if scales else spread_s(IDENTITY_S, self._luck())

    async def _tick(self, memory: Memory, view: View) -> bool:
        """Decide by fresh signals; False: the decision is to be made by a full pass."""
        outcome, _ = await self._decide(memory, view)
        if any(decision.changed for decision in outcome.decisions.values()):
            return False
        memory.scaling = outcome.state
        world = World(
            view.owner,
            int_at(view.resource, "metadata", "generation") or 0,
            view.spec,
            roles=view.roles,
            decisions=tuple(outcome.decisions.values()),
            conflicts=view.conflicts,
        )
        resource = await self._reporter.report(view.resource, world)
        memory.view = replace(view, resource=resource)
        return True

    async def _full_pass(self, key: Key) -> float | None:
        namespace, name = key
        resource = await self._kube.read(Kind.MODEL_SERVICE, namespace, name)
        if resource is None or text_at(resource, "metadata", "deletionTimestamp"):
            self._forget(key)  # its objects go with it, pods within their grace
            return None
        owner = Owner(name, namespace, text_at(resource, "metadata", "uid"))
        memory = self._remembered(key, owner)
        memory.view, memory.current = None, True
        generation = int_at(resource, "metadata", "generation") or 0
        try:
            spec = parse_service(resource)
        except InvalidSpec as error:
            world = World(owner, generation, None, problems=error.problems)
            await self._reporter.report(resource, world)
            return spread_s(RESYNC_S, self._luck())
        return await self._make_so(memory, owner, spec, resource, generation)

    async def _make_so(
        self,
        memory: Memory,
        owner: Owner,
        spec: ModelServiceSpec,
        resource: Manifest,
        generation: int,
    ) -> float:
        seen_s = self._clock.monotonic_s()
        seen = await observe_service(self._kube, owner)
        await self._look_at_secrets(memory, owner, spec)
        conflicts = memory.strangers
        routers = router_hosts(seen.pods_of(Role.ROUTER))
        roles = _of_the_spec(spec, seen.roles(owner))
        view = View(owner, spec, resource, roles, routers, conflicts, seen_s)
        outcome, heard = await self._decide(memory, view)
        memory.scaling = outcome.state
        done = await self._apply(owner, spec, seen, outcome.decisions, heard)
        memory.unrecorded += tuple(_made_so(outcome.decisions, done.seen.deployments(owner)))
        unchanged = [one for one in outcome.decisions.values() if not one.changed]
        world = World(
            owner,
            generation,
            spec,
            roles=_with_keys(_of_the_spec(spec, done.seen.roles(owner)), memory.keys),
            decisions=(*memory.unrecorded, *unchanged),
            conflicts=(*conflicts, *done.conflicts),
            refusals=done.refusals,
        )
        resource = await self._reporter.report(resource, world)
        for decision in memory.unrecorded:
            self._count_change(owner, decision)
        memory.unrecorded = ()
        if done.refusals:
            return spread_s(RESYNC_S / 10, self._luck())
        view = replace(view, resource=resource, roles=world.roles, conflicts=world.conflicts)
        memory.view = view
        return self._pause_s(view)

    async def _look_at_secrets(self, memory: Memory, owner: Owner, spec: ModelServiceSpec) -> None:
        """Ours are as they should be afterwards, but for strangers; clients' keys are looked at."""
        memory.identity_s = self._clock.monotonic_s()
        memory.strangers = await ensure_identity(self._kube, owner, self._clock.unix_s())
        memory.keys = await observe_keys(self._kube, owner, spec)

    async def _apply(
        self,
        owner: Owner,
        spec: ModelServiceSpec,
        seen: Observation,
        decisions: Mapping[Role, Decision],
        heard: Sequence[Heard],
    ) -> Done:
        replicas = applied_replicas(spec, decisions, seen.deployments(owner))
        desired = desired_manifests(owner, spec, replicas, self._release)
        seen = await read_namesakes(self._kube, owner, desired, seen)
        actions = diff(owner, desired, seen.children)
        leaving = [one.role for one in decisions.values() if one.replicas < one.previous]
        workers = requests_on(distinct_workers(heard))
        return await carry_out(self._kube, owner, seen, actions, leaving, workers)

    async def _decide(self, memory: Memory, view: View) -> tuple[Outcome, tuple[Heard, ...]]:
        """By what the routers say now; nothing where nothing is scaled."""
        targets, roles = targets_of(view.spec), scaled_roles(view.spec, view.roles)
        if targets is None or not roles:
            return Outcome({}, memory.scaling), ()
        heard = await self._collector.collect(view.routers)
        signals = add_up(heard, expected=len(view.routers))
        now_s = self._clock.monotonic_s()
        outcome = decide(signals, targets, roles, memory.scaling, now_s)
        where = {"namespace": view.owner.namespace, "service": view.owner.name}
        silent = len(view.routers) - len(heard)
        self._metrics.service_gauge("baton_operator_routers_silent", silent, **where)
        if signals is not None:
            age_s = now_s - signals.taken_s
            self._metrics.service_gauge("baton_operator_signals_age_seconds", age_s, **where)
        for decision in outcome.decisions.values():
            self._metrics.count(
                "baton_operator_scaling_decisions_total",
                role=decision.role.value,
                reason=decision.reason.value,
            )
        return outcome, heard

    def _count_change(self, owner: Owner, decision: Decision) -> None:
        self._metrics.service_count(
            "baton_operator_scaling_changes_total",
            namespace=owner.namespace,
            service=owner.name,
            role=decision.role.value,
            direction="up" if decision.replicas > decision.previous else "down",
            reason=decision.reason.value,
        )
        _log.info(
            "replicas changed",
            namespace=owner.namespace,
            service=owner.name,
            role=decision.role.value,
            previous=decision.previous,
            replicas=decision.replicas,
            reason=decision.reason.value,
            inputs=dict(decision.inputs),
        )

    def _remembered(self, key: Key, owner: Owner) -> Memory:
        """Of this very service: a namesake that came after it begins anew."""
        memory = self._memories.get(key)
        if memory is None or memory.uid != owner.uid:
            memory = self._memories[key] = Memory(owner.uid)
        return memory

    def _forget(self, key: Key) -> None:
        self._memories.pop(key, None)
        self._metrics.forget_service(*key)


def _of_the_spec(
    spec: ModelServiceSpec, roles: Mapping[Role, RoleObservation]
) -> dict[Role, RoleObservation]:
    """Without a role that the spec has no more, and whose objects are on their way out."""
    return {role: roles[role] for role in roles_of(spec) if role in roles}


def _with_keys(
    roles: dict[Role, RoleObservation], keys: Trouble | None
) -> dict[Role, RoleObservation]:
    """What is wrong with clients' keys is the routers' trouble, before what may follow from it."""
    if keys is None or Role.ROUTER not in roles:
        return roles
    return {**roles, Role.ROUTER: replace(roles[Role.ROUTER], trouble=keys)}


def _made_so(
    decisions: Mapping[Role, Decision], deployments: Mapping[Role, Manifest]
) -> list[Decision]:
    """The changes that stand in the Deployments now: what was refused did not happen."""
    return [
        decision
        for role, decision in decisions.items()
        if decision.changed
        and int_at(deployments.get(role), "spec", "replicas") == decision.replicas
    ]
