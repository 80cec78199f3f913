"""Says what has become of a ModelService: its status where that has changed, Events of what turned,
and gauges. Decides nothing: what is to say comes from `status`."""

from collections.abc import Sequence
from datetime import UTC, datetime

from baton.common.clock import Clock
from baton.common.logs import get_log

from baton_operator.api import GROUP, KIND, VERSION
from baton_operator.eventing import COUNT_MAX, event_manifest
from baton_operator.kube import ApiFailure, Kube
from baton_operator.manifest import Manifest, mapping_at
from baton_operator.metrics import OperatorMetrics
from baton_operator.names import Owner, Role
from baton_operator.observe import RoleObservation
from baton_operator.status import READY, Event, World, build_status, previous_status
from baton_operator.statusapi import ConditionStatus, ModelServiceStatus
from baton_operator.writing import written

_log = get_log(__name__)


class Reporter:
    """Writes statuses and Events as `instance`, the name of the operator's pod."""

    def __init__(self, kube: Kube, metrics: OperatorMetrics, clock: Clock, instance: str) -> None:
        self._kube = kube
        self._metrics = metrics
        self._clock = clock
        self._instance = instance

    async def report(self, resource: Manifest, world: World) -> Manifest:
        """The ModelService with its status as it is now; writes it only where it differs."""
        now = datetime.fromtimestamp(self._clock.unix_s(), UTC)
        before = previous_status(resource)
        status, events = build_status(world, before, now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        self._show(world, status)
        said = written(status)
        if said == mapping_at(resource, "status"):
            return resource
        answer = await self._kube.apply_status(_patch(world.owner, said))
        await self._post(world.owner, events, now)
        return answer

    async def _post(self, owner: Owner, events: Sequence[Event], now: datetime) -> None:
        """Events are news, not state: one that is lost is not written again."""
        for number, event in enumerate(events[:COUNT_MAX]):
            _log.info(
                "event",
                namespace=owner.namespace,
                service=owner.name,
                reason=event.reason,
                note=event.message,
            )
            manifest = event_manifest(owner, event, instance=self._instance, now=now, number=number)
            try:
                await self._kube.create(manifest)
            except ApiFailure as failure:
                _log.warning("event not posted", reason=event.reason, error=failure.message)

    def _show(self, world: World, status: ModelServiceStatus) -> None:
        where = {"namespace": world.owner.namespace, "service": world.owner.name}
        ready = any(
            one.type == READY and one.status is ConditionStatus.TRUE for one in status.conditions
        )
        self._metrics.service_gauge("baton_operator_service_ready", float(ready), **where)
        if world.spec is None:
            return  # what its pods are is not known now, so the last that was known stays
        for role in Role:
            seen = world.roles.get(role, RoleObservation())
            counts = {"desired": seen.wanted, "replicas": seen.replicas, "ready": seen.ready}
            for kind, count in counts.items():
                self._metrics.service_gauge(
                    "baton_operator_replicas", count, **where, role=role.value, kind=kind
                )


def _patch(owner: Owner, status: Manifest) -> Manifest:
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {"name": owner.name, "namespace": owner.namespace},
        "status": status,
    }
