"""Carries out what `diff` has decided: applies and deletes, in order. Knows no reasons.

What the API server refuses is told and does not keep the rest from being done: a template that
cannot be leaves the service's other objects, and its old pods, as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from baton.common.logs import get_log
from baton.common.signals import WorkerSignals

from baton_operator.departure import COST_ANNOTATION, departure_costs
from baton_operator.diff import Action, Apply, Conflict, Delete, Key
from baton_operator.kinds import Kind, kind_named
from baton_operator.kube import ApiFailure, Kube
from baton_operator.manifest import Manifest
from baton_operator.names import Owner, Role
from baton_operator.observing import Observation

_log = get_log(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    """What has come of the actions."""

    seen: Observation  # with what was applied
    conflicts: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()


async def carry_out(
    kube: Kube,
    owner: Owner,
    seen: Observation,
    actions: Sequence[Action],
    leaving: Sequence[Role],
    workers: Mapping[str, WorkerSignals],
) -> Done:
    """`leaving` are roles that are about to have fewer pods; `workers` are by their pods' hosts.

    Raises ApiFailure for what may succeed when it is tried again.
    """
    for role in leaving:
        await _mark_departures(kube, owner, seen.pods_of(role), workers)
    applied: list[Manifest] = []
    conflicts: list[str] = []
    refusals: list[str] = []
    for action in actions:
        try:
            match action:
                case Apply(_, manifest):
                    applied.append(await kube.apply(manifest))
                case Delete(key, _, uid):
                    await kube.delete(kind_named(key.kind), owner.namespace, key.name, uid)
                case Conflict(key):
                    conflicts.append(_named(key))
        except ApiFailure as failure:
            if not failure.refused:
                raise
            refusals.append(f"{_named(action.key)}: {failure.message}")
        else:
            _tell(owner, action)
    return Done(seen.with_applied(applied), tuple(conflicts), tuple(refusals))


async def _mark_departures(
    kube: Kube, owner: Owner, pods: Sequence[Manifest], workers: Mapping[str, WorkerSignals]
) -> None:
    """A mark that cannot be set costs the choice of the pod, not the decision."""
    for name, cost in departure_costs(pods, workers).items():
        try:
            await kube.annotate(Kind.POD, owner.namespace, name, {COST_ANNOTATION: cost})
        except ApiFailure as failure:
            _log.warning("pod not marked", namespace=owner.namespace, pod=name, error=str(failure))


def _tell(owner: Owner, action: Action) -> None:
    if not isinstance(action, Conflict):
        done = "applied" if isinstance(action, Apply) else "deleted"
        _log.info(done, namespace=owner.namespace, service=owner.name, object=_named(action.key))


def _named(key: Key) -> str:
    return f"{key.kind} {key.name}"
