"""From a Deployment and its pods, as the API server shows them, to what is to know of a role. Pure.

Finds the one trouble that a person should hear of first. Knows Kubernetes' words for what goes
wrong; knows no spec and no conditions of ours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from baton_operator.manifest import Json, Manifest, int_at, list_at, mapping_at, text_at
from baton_operator.weights import FETCH_CONTAINERS

MESSAGE_CHARS_MAX = 512  # of what Kubernetes or a container said; the last words say most

_IMAGE_REASONS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
)
_CONFIG_REASONS: Final = frozenset({"CreateContainerConfigError", "CreateContainerError"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why pods do not come up: one CamelCase word and what was said."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class RoleObservation:
    """The pods of a role, now."""

    exists: bool = False  # whether there is a Deployment
    wanted: int = 0  # the Deployment's replicas
    replicas: int = 0  # pods that exist
    ready: int = 0
    updated: int = 0  # pods of the newest template
    current: bool = False  # the Deployment's status is about its newest spec
    trouble: Trouble | None = None


def observe_role(deployment: Manifest | None, pods: Sequence[Manifest]) -> RoleObservation:
    """`pods`: those of the role. Pods that are being deleted are no trouble of anyone's."""
    if deployment is None:
        return RoleObservation()
    status = mapping_at(deployment, "status")
    generation = int_at(deployment, "metadata", "generation") or 0
    return RoleObservation(
        exists=True,
        wanted=int_at(deployment, "spec", "replicas") or 0,
        replicas=int_at(status, "replicas") or 0,
        ready=int_at(status, "readyReplicas") or 0,
        updated=int_at(status, "updatedReplicas") or 0,
        current=(int_at(status, "observedGeneration") or 0) >= generation,
        trouble=find_trouble(deployment, pods),
    )


def find_trouble(deployment: Manifest, pods: Sequence[Manifest]) -> Trouble | None:
    """The first trouble of the first pod that has one, in the order of their names; else the
    Deployment's own."""
    living = [pod for pod in pods if not text_at(pod, "metadata", "deletionTimestamp")]
    for pod in sorted(living, key=lambda pod: text_at(pod, "metadata", "name")):
        for trouble in _pod_troubles(pod):
            return trouble
    return _deployment_trouble(deployment)


def secret_trouble(name: str, entry: str, secret: Manifest | None) -> Trouble | None:
    """What keeps pods that mount the `entry` of a Secret from starting. Of volumes a pod's status
    says nothing: its containers are being created for as long as one is missing."""
    if secret is None:
        said = f"there is no Secret {name}: make it, with the entry {entry}"
    elif entry not in mapping_at(secret, "data"):
        said = f"the Secret {name} has no entry {entry}: add it"
    else:
        return None
    return Trouble("ContainerConfigInvalid", said)


def _pod_troubles(pod: Manifest) -> Iterator[Trouble]:
    for condition in list_at(pod, "status", "conditions"):
        unplaced = text_at(condition, "type") == "PodScheduled"
        if unplaced and text_at(condition, "reason") == "Unschedulable":
            yield Trouble("Unschedulable", _shortened(text_at(condition, "message")))
    for group in ("initContainerStatuses", "containerStatuses"):
        for container in list_at(pod, "status", group):
            trouble = _container_trouble(container)
            if trouble is not None:
                yield trouble


def _container_trouble(container: Json) -> Trouble | None:
    waiting = mapping_at(container, "state", "waiting")
    reason = text_at(waiting, "reason")
    if reason in _IMAGE_REASONS:
        return Trouble("ImagePullFailed", _said(container, text_at(waiting, "message")))
    if reason in _CONFIG_REASONS:
        return Trouble("ContainerConfigInvalid", _said(container, text_at(waiting, "message")))
    ended = _failed_end(container)
    if ended is None:
        return None
    said = _said(container, text_at(ended, "message"))
    if text_at(container, "name") in FETCH_CONTAINERS:
        return Trouble("WeightsFailed", said)
    if text_at(ended, "reason") == "OOMKilled":
        return Trouble("OutOfMemory", said)
    code = int_at(ended, "exitCode")
    return Trouble("Crashing", f"{said} (exit code {code})")


def _failed_end(container: Json) -> Manifest | None:
    """How the container ended, if that is what keeps its pod from being ready."""
    # A fetch that runs again has got over nothing: its success is its end.
    fetching = text_at(container, "name") in FETCH_CONTAINERS
    if mapping_at(container, "state", "running") and not fetching:
        return None  # it has got over it; the restart count tells the rest
    for state in ("state", "lastState"):
        ended = mapping_at(container, state, "terminated")
        if ended and int_at(ended, "exitCode") != 0:
            return ended
        if ended:
            return None
    return None


def _deployment_trouble(deployment: Manifest) -> Trouble | None:
    for condition in list_at(deployment, "status", "conditions"):
        kind, status = text_at(condition, "type"), text_at(condition, "status")
        message = _shortened(text_at(condition, "message"))
        if kind == "ReplicaFailure" and status == "True":
            return Trouble("PodsRefused", message)
        if kind == "Progressing" and status == "False":
            return Trouble("RolloutStalled", message)
    return None


def _said(container: Json, message: str) -> str:
    return f"container {text_at(container, 'name')}: {_shortened(message) or 'said nothing'}"


def _shortened(message: str) -> str:
    return message.strip()[-MESSAGE_CHARS_MAX:]
