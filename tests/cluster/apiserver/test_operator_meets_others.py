"""What others do to the operator's objects, and what the operator does then."""

from collections.abc import Callable

from support.control_plane import ControlPlane
from support.operator_plane import (
    PASSES,
    apply,
    become_ready,
    condition,
    deployment,
    eventually,
    get,
    kubectl,
    make_pod,
    service,
    settle,
)
from support.operator_process import OperatorProcess


def test_what_somebody_changed_is_put_back_and_what_somebody_added_stays(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    start()
    apply(plane, service(namespace))
    eventually(lambda: condition(plane, namespace, "Ready")["reason"] != "")
    kubectl(plane, "label", "deployment/smol-decode", "team=blue", "-n", namespace)
    kubectl(plane, "scale", "deployment/smol-decode", "--replicas=7", "-n", namespace)
    kubectl(plane, "delete", "service/smol", "-n", namespace)
    kubectl(plane, "delete", "pdb/smol-router", "-n", namespace)
    eventually(lambda: deployment(plane, namespace, "decode")["spec"]["replicas"] == 2)
    eventually(lambda: plane.kubectl("get", "service/smol", "-n", namespace).returncode == 0)
    eventually(lambda: plane.kubectl("get", "pdb/smol-router", "-n", namespace).returncode == 0)
    assert deployment(plane, namespace, "decode")["metadata"]["labels"]["team"] == "blue"


def test_an_object_of_somebody_else_with_our_name_is_left_alone_and_told(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    kubectl(plane, "create", "service", "clusterip", "smol", "--tcp=80:80", "-n", namespace)
    start()
    apply(plane, service(namespace))
    eventually(lambda: condition(plane, namespace, "Ready")["reason"] == "NameTaken")
    assert "Service smol" in condition(plane, namespace, "Ready")["message"]
    assert condition(plane, namespace, "Stalled")["status"] == "True"
    found = get(plane, namespace, "service/smol")
    assert [port["port"] for port in found["spec"]["ports"]] == [80]


def test_a_template_the_api_server_refuses_keeps_the_old_pods_and_says_why(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    start()
    apply(plane, service(namespace))
    eventually(lambda: condition(plane, namespace, "Ready")["reason"] != "")
    before = deployment(plane, namespace, "decode")["spec"]["template"]
    bad = {"replicas": 2, "template": {"nodeSelector": {"not a label!": "x"}}}
    apply(plane, service(namespace, decode=bad))
    eventually(lambda: condition(plane, namespace, "Ready")["reason"] == "ApplyRefused")
    assert "not a label!" in condition(plane, namespace, "Ready")["message"]
    assert deployment(plane, namespace, "decode")["spec"]["template"] == before
    apply(plane, service(namespace))
    eventually(lambda: condition(plane, namespace, "Ready")["reason"] != "ApplyRefused")


def test_a_fetch_that_fails_is_told_with_its_last_lines(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    start()
    apply(plane, service(namespace))
    eventually(lambda: condition(plane, namespace, "Ready")["reason"] != "")
    become_ready(plane, namespace)
    waiting = {"reason": "CrashLoopBackOff"}
    ended = {"exitCode": 1, "reason": "Error", "message": "cp: /model/m.gguf: not found"}
    status = {
        "phase": "Pending",
        "initContainerStatuses": [
            {
                "name": "baton-weights",
                "image": "w",
                "imageID": "",
                "ready": False,
                "restartCount": 3,
                "state": {"waiting": waiting},
                "lastState": {"terminated": ended},
            }
        ],
    }
    make_pod(plane, namespace, "decode", "smol-decode-new", status)
    eventually(lambda: condition(plane, namespace, "DecodeReady")["reason"] == "WeightsFailed")
    message = condition(plane, namespace, "DecodeReady")["message"]
    assert "cp: /model/m.gguf: not found" in message
    assert "keep serving" in message


def test_replicas_are_the_autoscalers_in_external_mode(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    operator = start()
    apply(plane, service(namespace, decode={"replicas": 3}))
    eventually(lambda: condition(plane, namespace, "Ready")["reason"] != "")
    apply(plane, service(namespace, decode={"scaling": {"mode": "external"}}))
    reason = "ExternallyScaled"
    apply(plane, service(namespace, prefill=None, decode={"scaling": {"mode": "external"}}))
    eventually(lambda: condition(plane, namespace, "ScalingActive")["reason"] == reason)
    assert deployment(plane, namespace, "decode")["spec"]["replicas"] == 3  # handed over as it was
    kubectl(plane, "scale", "deployment/smol-decode", "--replicas=5", "-n", namespace)
    passes = operator.metric(PASSES)
    kubectl(plane, "annotate", "deployment/smol-decode", "a=b", "-n", namespace)
    eventually(lambda: operator.metric(PASSES) > passes)
    settle(operator)
    assert deployment(plane, namespace, "decode")["spec"]["replicas"] == 5
