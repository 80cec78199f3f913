"""Strategic merge of one Kubernetes object into another, as `kubectl patch` does it. Pure.

Maps are merged, lists of objects are merged by the key that tells their items apart, everything
else is replaced. Neither argument is changed.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from baton_operator.manifest import Json, Manifest

# The patch merge keys of Kubernetes' API, for the lists a pod template has.
MERGE_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "ports": ("containerPort", "port", "protocol"),
    "ownerReferences": ("uid",),
}
# Merged by Kubernetes without a key: what both sides say is all wanted.
APPENDED: Final = frozenset({"tolerations"})


def strategic_merge(under: Manifest, over: Manifest) -> dict[str, Json]:
    """`under` with everything that `over` says; what `over` leaves out stays."""
    merged = dict(under)
    for name, value in over.items():
        merged[name] = _merged(name, merged[name], value) if name in merged else value
    return merged


def item_key(name: str, item: Json) -> tuple[Json, ...] | None:
    """What tells `item` apart in a list called `name`; None: only its place does."""
    keys = MERGE_KEYS.get(name)
    if keys is None or not isinstance(item, Mapping):
        return None
    return tuple(item.get(key) for key in keys)


def _merged(name: str, under: Json, over: Json) -> Json:
    if isinstance(under, Mapping) and isinstance(over, Mapping):
        return strategic_merge(under, over)
    if _is_list(under) and _is_list(over):
        return _merged_lists(name, under, over)
    return over


def _merged_lists(name: str, under: Json, over: Json) -> Json:
    assert isinstance(under, Sequence)
    assert isinstance(over, Sequence)
    if name in APPENDED:
        return [*under, *(item for item in over if item not in under)]
    if name not in MERGE_KEYS:
        return over
    merged = {item_key(name, item): item for item in under}
    for item in over:
        key = item_key(name, item)
        merged[key] = _merged("", merged[key], item) if key in merged else item
    return list(merged.values())


def _is_list(value: Json) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
