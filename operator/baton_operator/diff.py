"""Desired objects against those that exist: the ordered actions that make them agree. Pure.

Level-triggered and idempotent: whatever happened before, the answer follows from what should be and
what is. Server-side-apply semantics: only fields that we set are compared, whatever else is in an
object belongs to others. Only objects that our ModelService owns are touched. Knows no API server.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from baton_operator.manifest import (
    Json,
    Manifest,
    flag_at,
    int_at,
    is_empty,
    list_at,
    mapping_at,
    text_at,
)
from baton_operator.merge import item_key, strategic_merge
from baton_operator.names import FIELD_MANAGER, Owner
from baton_operator.quantities import quantity

APPLIED_ANNOTATION = "serving.baton.dev/applied"
"""Hash of what we applied. Comparing fields cannot show that we no longer want one; this does."""

# What others need comes first: an account and what it may before its pods, a policy before there is
# traffic.
APPLY_ORDER: Final = (
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Service",
    "Deployment",
)
_QUANTITIES: Final = frozenset({"requests", "limits", "sizeLimit"})
"""Where the API server stores another spelling of the same number: 1000m as 1."""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What names an object within its namespace."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply `manifest` with our field manager, forced: these fields are ours."""

    key: Key
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the object, if it still is the one with this uid."""

    key: Key
    api_version: str
    uid: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """An object has a name of ours and belongs to somebody else: it is left alone, and told."""

    key: Key


Action: TypeAlias = Apply | Delete | Conflict


def diff(
    owner: Owner, desired: Sequence[Manifest], observed: Sequence[Manifest]
) -> tuple[Action, ...]:
    """What to do, in order; nothing when `observed` is as desired.

    `observed` are the objects of the owner's namespace that have a desired name or our labels.
    """
    existing = {key_of(found): found for found in observed}
    wanted = {key_of(one): one for one in desired}
    applied: list[Action] = []
    for key in sorted(wanted, key=_order):
        manifest, found = signed(wanted[key]), existing.get(key)
        if found is not None and not owned(owner, found):
            applied.append(Conflict(key))
        elif found is None or not covers(manifest, found):
            applied.append(Apply(key, manifest))
    # Deleted last and backwards: nothing loses what it stands on.
    removed = sorted(existing.keys() - wanted.keys(), key=_order, reverse=True)
    return (
        *applied,
        *(
            Delete(key, text_at(found, "apiVersion"), text_at(found, "metadata", "uid"))
            for key in removed
            if owned(owner, found := existing[key]) and not _is_going(found)
        ),
    )


def key_of(manifest: Manifest) -> Key:
    return Key(text_at(manifest, "kind"), text_at(manifest, "metadata", "name"))


def owned(owner: Owner, found: Manifest) -> bool:
    """Whether the object's controller is this very ModelService, not a namesake before it."""
    return any(
        flag_at(reference, "controller") and text_at(reference, "uid") == owner.uid
        for reference in list_at(found, "metadata", "ownerReferences")
    )


def signed(manifest: Manifest) -> Manifest:
    """The manifest with the hash of its own content."""
    content = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(content.encode()).hexdigest()[:32]  # an accident is all we fear
    return strategic_merge(manifest, {"metadata": {"annotations": {APPLIED_ANNOTATION: digest}}})


def covers(desired: Json, observed: Json, name: str = "") -> bool:
    """Whether everything `desired` says holds in `observed`, a value of a field called `name`."""
    if isinstance(desired, Mapping) and isinstance(observed, Mapping):
        return all(
            covers(value, observed.get(key), name if name in _QUANTITIES else key)
            for key, value in desired.items()
        )
    if _is_list(desired) and _is_list(observed):
        return _covers_list(desired, observed, name)
    if is_empty(desired) and observed is None:
        return True  # the server does not store what is empty
    if name in _QUANTITIES and quantity(desired) is not None:
        return quantity(desired) == quantity(observed)
    return type(desired) is type(observed) and desired == observed


def owned_replicas(deployment: Manifest) -> int | None:
    """The replicas of a Deployment while the field is ours; None: somebody else scales it.

    An applier that stops naming a field it alone owns has it removed, and the Deployment would fall
    back to one pod. So when a role changes to external scaling, its present number is applied until
    the autoscaler's first write takes the field over.
    """
    for entry in list_at(deployment, "metadata", "managedFields"):
        if text_at(entry, "manager") == FIELD_MANAGER and text_at(entry, "operation") == "Apply":
            fields = mapping_at(entry, "fieldsV1", "f:spec")
            return int_at(deployment, "spec", "replicas") if "f:replicas" in fields else None
    return None


def _covers_list(desired: Json, observed: Json, name: str) -> bool:
    """Lists that are merged by key may hold others' items; all others agree item by item."""
    assert isinstance(desired, Sequence)
    assert isinstance(observed, Sequence)
    if all(item_key(name, item) is not None for item in desired):
        found = {item_key(name, item): item for item in observed}
        return all(covers(item, found.get(item_key(name, item))) for item in desired)
    return len(desired) == len(observed) and all(
        covers(one, other) for one, other in zip(desired, observed, strict=True)
    )


def _is_list(value: Json) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_going(found: Manifest) -> bool:
    return bool(text_at(found, "metadata", "deletionTimestamp"))


def _order(key: Key) -> tuple[int, Key]:
    known = key.kind in APPLY_ORDER
    return (APPLY_ORDER.index(key.kind) if known else len(APPLY_ORDER), key)
