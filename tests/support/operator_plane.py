"""What tests of the operator ask of, and do to, an API server without kubelet and controllers.

Pods and Deployments have the status that a test gives them.
"""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

from cryptography import x509

from support.control_plane import ControlPlane
from support.operator_process import OperatorProcess

WAIT_S = 60.0
CHILDREN = (
    "serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets,services,deployments"
)
Json = Any
SOURCE = "oci://localhost/weights:1/model/m.gguf"
PASSES = 'controller_runtime_reconcile_total{controller="modelservice",result="requeue_after"}'


def service(namespace: str, **spec: Json) -> dict[str, Json]:
    given = {
        "model": {"name": "smollm2-135m", "source": SOURCE},
        "slo": {"ttft": "500ms", "itl": "50ms"},
        "prefill": {"scaling": {"minReplicas": 0, "maxReplicas": 4}},
        "decode": {"replicas": 2},
        **spec,
    }
    return {
        "apiVersion": "serving.baton.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": "smol", "namespace": namespace},
        "spec": {name: value for name, value in given.items() if value is not None},
    }


def kubectl(plane: ControlPlane, *arguments: str, document: str | None = None) -> str:
    answer = plane.kubectl(*arguments, document=document)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def apply(plane: ControlPlane, resource: dict[str, Json]) -> None:
    kubectl(plane, "apply", "-f", "-", document=json.dumps(resource))


def get(plane: ControlPlane, namespace: str, name: str) -> Json:
    return json.loads(kubectl(plane, "get", name, "-n", namespace, "-o", "json"))


def listed(plane: ControlPlane, namespace: str, kinds: str) -> list[Json]:
    items: list[Json] = get(plane, namespace, kinds)["items"]
    return items


def deployment(plane: ControlPlane, namespace: str, role: str) -> Json:
    return get(plane, namespace, f"deployment/smol-{role}")


def children(plane: ControlPlane, namespace: str) -> list[Json]:
    found = listed(plane, namespace, CHILDREN)
    return [one for one in found if "ownerReferences" in one["metadata"]]


def condition(plane: ControlPlane, namespace: str, kind: str) -> Json:
    found = get(plane, namespace, "modelservice/smol").get("status", {}).get("conditions", [])
    unknown = {"status": "", "reason": "", "message": ""}
    return next((one for one in found if one["type"] == kind), unknown)


def history(plane: ControlPlane, namespace: str) -> list[Json]:
    status = get(plane, namespace, "modelservice/smol").get("status", {})
    found: list[Json] = status.get("scalingHistory", [])
    return found


def versions(plane: ControlPlane, namespace: str) -> dict[tuple[str, str], str]:
    """Of every object of the namespace that is ours."""
    resources = f"{CHILDREN},secrets,modelservices"
    return {
        (one["kind"], one["metadata"]["name"]): one["metadata"]["resourceVersion"]
        for one in listed(plane, namespace, resources)
    }


def touch_every_child(plane: ControlPlane, namespace: str) -> None:
    for child in children(plane, namespace):
        name = f"{child['kind'].lower()}/{child['metadata']['name']}"
        # Not an annotation: of a Deployment it counts as a new generation.
        kubectl(plane, "label", name, "somebody=else", "-n", namespace)


def foreign_changes_only(before: dict[Json, str], after: dict[Json, str]) -> bool:
    """After each child was touched once: what nobody touched is as it was, nothing is new."""
    untouched = [key for key in before if key[0] in ("Secret", "ModelService")]
    assert [after[key] for key in untouched] == [before[key] for key in untouched]
    return before.keys() == after.keys()


def certificates(
    plane: ControlPlane, namespace: str
) -> tuple[x509.Certificate, list[x509.Certificate]]:
    data = get(plane, namespace, "secret/smol-tls")["data"]
    leaf = x509.load_pem_x509_certificate(base64.b64decode(data["tls.crt"]))
    return leaf, x509.load_pem_x509_certificates(base64.b64decode(data["ca.crt"]))


def become_ready(plane: ControlPlane, namespace: str) -> None:
    """What the Deployment controller says once all pods are ready."""
    for role in ("router", "prefill", "decode"):
        found = deployment(plane, namespace, role)
        count = found["spec"]["replicas"]
        status = {
            "observedGeneration": found["metadata"]["generation"],
            **dict.fromkeys(
                ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), count
            ),
        }
        patch_status(plane, namespace, f"deployment/smol-{role}", status)


def make_pod(
    plane: ControlPlane, namespace: str, role: str, name: str, status: dict[str, Json]
) -> None:
    template = deployment(plane, namespace, role)["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": template["metadata"]["labels"],
        },
        "spec": template["spec"],
    }
    kubectl(plane, "create", "-f", "-", document=json.dumps(pod))
    patch_status(plane, namespace, f"pod/{name}", status)


def patch_status(plane: ControlPlane, namespace: str, name: str, status: dict[str, Json]) -> None:
    patch = json.dumps({"status": status})
    kubectl(
        plane, "patch", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch
    )


def eventually(holds: Callable[[], bool]) -> None:
    """Returns when `holds`; fails with what it said last after WAIT_S."""
    deadline_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline_s, "it did not come about"
        time.sleep(0.25)


def settle(operator: OperatorProcess) -> None:
    """Returns when no pass has ended for a second and none waits."""

    def passes() -> float:
        return operator.metric(PASSES) + operator.metric('workqueue_depth{name="modelservice"}')

    def quiet() -> bool:
        before = passes()
        time.sleep(1.0)
        return passes() == before

    eventually(quiet)
