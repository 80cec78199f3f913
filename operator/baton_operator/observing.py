"""What is there of a ModelService: read from the API server, afresh, and sorted by role.

Lists by label find what is ours; a name of ours that a list does not show is read by itself, since
it may be somebody else's.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from baton_operator.api import ModelServiceSpec
from baton_operator.diff import key_of
from baton_operator.kinds import CHILD_KINDS, Kind, kind_named
from baton_operator.kube import Kube
from baton_operator.manifest import Manifest, list_at, mapping_at, text_at
from baton_operator.names import Owner, Role
from baton_operator.observe import RoleObservation, Trouble, observe_role, secret_trouble
from baton_operator.pods import KEYS_FILE


@dataclass(frozen=True, slots=True)
class Observation:
    """The objects of one service."""

    children: Sequence[Manifest]
    pods: Sequence[Manifest]

    def deployments(self, owner: Owner) -> dict[Role, Manifest]:
        by_name = {
            text_at(one, "metadata", "name"): one
            for one in self.children
            if text_at(one, "kind") == Kind.DEPLOYMENT.resource.kind
        }
        return {role: by_name[owner.child(role)] for role in Role if owner.child(role) in by_name}

    def pods_of(self, role: Role) -> list[Manifest]:
        label = "app.kubernetes.io/component"
        return [pod for pod in self.pods if text_at(pod, "metadata", "labels", label) == role.value]

    def roles(self, owner: Owner) -> dict[Role, RoleObservation]:
        deployments = self.deployments(owner)
        return {
            role: observe_role(deployments.get(role), self.pods_of(role))
            for role in Role
            if role in deployments
        }

    def with_applied(self, applied: Iterable[Manifest]) -> "Observation":
        """The same after these objects were applied, as the API server answered."""
        newest = {key_of(one): one for one in applied}
        kept = [one for one in self.children if key_of(one) not in newest]
        return Observation([*kept, *newest.values()], self.pods)


async def observe_service(kube: Kube, owner: Owner) -> Observation:
    """All that carries the service's labels."""
    *children, pods = await asyncio.gather(
        *(
            kube.list(kind, owner.namespace, owner.service_labels)
            for kind in (*CHILD_KINDS, Kind.POD)
        )
    )
    return Observation([one for some in children for one in some], pods)


async def read_namesakes(
    kube: Kube, owner: Owner, desired: Sequence[Manifest], seen: Observation
) -> Observation:
    """`seen`, with the objects that have a desired name and do not carry our labels."""
    known = {key_of(one) for one in seen.children}
    missing = [key for key in map(key_of, desired) if key not in known]
    found = await asyncio.gather(
        *(kube.read(kind_named(key.kind), owner.namespace, key.name) for key in missing)
    )
    return Observation([*seen.children, *(one for one in found if one is not None)], seen.pods)


async def observe_keys(kube: Kube, owner: Owner, spec: ModelServiceSpec) -> Trouble | None:
    """What is wrong with the Secret of clients' keys, which is not ours to make; one read by name
    where the spec has one."""
    if spec.router.api_keys is None:
        return None
    name = spec.router.api_keys.secret_name
    return secret_trouble(name, KEYS_FILE, await kube.read(Kind.SECRET, owner.namespace, name))


def router_hosts(pods: Sequence[Manifest]) -> tuple[str, ...]:
    """Addresses of the routers whose word is wanted: the ready ones; where none is ready, all that
    run, so that a router that waits for its first worker can say that somebody asks."""
    running = [
        pod
        for pod in pods
        if text_at(pod, "status", "podIP")
        and text_at(pod, "status", "phase") == "Running"
        and not text_at(pod, "metadata", "deletionTimestamp")
    ]
    ready = [pod for pod in running if _is_ready(pod)]
    return tuple(sorted(text_at(pod, "status", "podIP") for pod in ready or running))


def _is_ready(pod: Manifest) -> bool:
    conditions: Mapping[str, str] = {
        text_at(one, "type"): text_at(one, "status")
        for one in list_at(mapping_at(pod, "status"), "conditions")
    }
    return conditions.get("Ready") == "True"
