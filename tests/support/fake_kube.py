"""An API server in memory, for the thin half of the operator: objects, server-side apply, faults.

Follows the real one where the operator depends on it: versions that count up, conflicts of stale
ones, empty lists for what is not there. It validates nothing; tests/cluster asks the real one.
"""

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from baton_operator.kinds import Kind, kind_named
from baton_operator.kube import ApiFailure
from baton_operator.manifest import Manifest
from baton_operator.merge import strategic_merge
from baton_operator.names import FIELD_MANAGER

AWAY = ApiFailure(0, "Unreachable", "the API server does not answer")


class FakeKube:
    """`Kube`. `writes` are what was written, in order: (verb, kind, name). `reads` counts objects
    asked for by name, `lists` calls that may be answered with many."""

    def __init__(self) -> None:
        self.objects: dict[tuple[Kind, str, str], dict[str, Any]] = {}
        self.writes: list[tuple[str, str, str]] = []
        self.reads = self.lists = 0
        self.away = False  # every call fails
        self.refused: dict[tuple[str, str], str] = {}  # (kind, name) of applies that fail, and why
        self._versions = itertools.count(1)

    def put(self, manifest: Mapping[str, Any]) -> None:
        """As somebody else would, with the status that controllers give."""
        kind = kind_named(manifest["kind"])
        metadata = manifest["metadata"]
        stored = copy.deepcopy(dict(manifest))
        stored["metadata"] = {"uid": f"uid-{next(self._versions)}", "generation": 1, **metadata}
        self.objects[kind, metadata.get("namespace", ""), metadata["name"]] = self._new(stored)

    def of(self, kind: Kind) -> dict[str, dict[str, Any]]:
        """By name."""
        return {name: found for (one, _, name), found in self.objects.items() if one is kind}

    def set_status(self, kind: Kind, name: str, **status: Any) -> None:
        found = self.of(kind)[name]
        found["status"] = {**found.get("status", {}), **status}

    async def read(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        self._check()
        self.reads += 1
        return copy.deepcopy(self.objects.get((kind, namespace, name)))

    async def list(
        self, kind: Kind, namespace: str | None, labels: Mapping[str, str]
    ) -> Sequence[Manifest]:
        self._check()
        self.lists += 1
        return [
            copy.deepcopy(found)
            for (one, where, _), found in self.objects.items()
            if one is kind
            and namespace in (None, where)
            and labels.items() <= found["metadata"].get("labels", {}).items()
        ]

    async def apply(self, manifest: Manifest) -> Manifest:
        self._check()
        new: Any = copy.deepcopy(manifest)
        name = new["metadata"]["name"]
        if (new["kind"], name) in self.refused:
            raise ApiFailure(422, "Invalid", self.refused[new["kind"], name])
        self.writes.append(("apply", new["kind"], name))
        key = (kind_named(new["kind"]), new["metadata"]["namespace"], name)
        old = self.objects.get(key)
        if old is None:
            new["metadata"] |= {"uid": f"uid-{next(self._versions)}", "generation": 1}
        else:
            kept = {name: old["metadata"][name] for name in ("uid", "generation")}
            new = strategic_merge({**new, "status": old.get("status", {})}, {"metadata": kept})
        if new["kind"] == "Deployment":
            new["spec"].setdefault("replicas", 1 if old is None else old["spec"]["replicas"])
        owned: dict[str, Any] = {"f:replicas": {}} if "replicas" in _spec(manifest) else {}
        entry = {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": owned}}
        new["metadata"]["managedFields"] = [entry]
        self.objects[key] = self._new(new)
        return copy.deepcopy(self.objects[key])

    async def apply_status(self, manifest: Manifest) -> Manifest:
        self._check()
        said: Any = copy.deepcopy(manifest)
        name = said["metadata"]["name"]
        self.writes.append(("status", said["kind"], name))
        found = self.objects.get((kind_named(said["kind"]), said["metadata"]["namespace"], name))
        if found is None:
            raise ApiFailure(404, "NotFound", "no such object")
        found["status"] = said["status"]
        self._new(found)
        return copy.deepcopy(found)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        self._check()
        found = self.objects.get((kind, namespace, name))
        if found is not None and found["metadata"]["uid"] == uid:
            self.writes.append(("delete", kind.resource.kind, name))
            del self.objects[kind, namespace, name]

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str | None]
    ) -> None:
        self._check()
        self.writes.append(("annotate", kind.resource.kind, name))
        metadata = self.objects[kind, namespace, name]["metadata"]
        metadata["annotations"] = {**metadata.get("annotations", {}), **annotations}

    async def create(self, manifest: Manifest) -> Manifest:
        self._check()
        new: Any = copy.deepcopy(manifest)
        key = (kind_named(new["kind"]), new["metadata"]["namespace"], new["metadata"]["name"])
        if key in self.objects:
            raise ApiFailure(409, "AlreadyExists", "there is one")
        self.writes.append(("create", new["kind"], key[2]))
        self.objects[key] = self._new(new)
        return copy.deepcopy(new)

    async def replace(self, manifest: Manifest) -> Manifest:
        self._check()
        new: Any = copy.deepcopy(manifest)
        key = (kind_named(new["kind"]), new["metadata"]["namespace"], new["metadata"]["name"])
        version = new["metadata"].get("resourceVersion")
        if key not in self.objects:
            raise ApiFailure(404, "NotFound", "no such object")
        if self.objects[key]["metadata"]["resourceVersion"] != version:
            raise ApiFailure(409, "Conflict", "somebody was faster")
        self.writes.append(("replace", new["kind"], key[2]))
        self.objects[key] = self._new(new)
        return copy.deepcopy(new)

    def _new(self, stored: dict[str, Any]) -> dict[str, Any]:
        stored["metadata"]["resourceVersion"] = str(next(self._versions))
        return stored

    def _check(self) -> None:
        if self.away:
            raise AWAY


def _spec(manifest: Manifest) -> Mapping[str, Any]:
    found: Any = manifest.get("spec", {})
    return found if isinstance(found, Mapping) else {}
