"""Restarts, two operators, an API server that is away: the operator as a process among others."""

from collections.abc import Callable
from pathlib import Path

from support.control_plane import ControlPlane
from support.operator_plane import (
    PASSES,
    apply,
    children,
    condition,
    deployment,
    eventually,
    get,
    kubectl,
    listed,
    service,
    settle,
    versions,
)
from support.operator_process import OperatorProcess
from support.operator_rbac import SYSTEM, chart_rbac, lease_name, service_account


def test_a_restart_changes_nothing(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    first = start()
    apply(plane, service(namespace))
    eventually(lambda: condition(plane, namespace, "Ready")["reason"] != "")
    settle(first)
    before = versions(plane, namespace)
    assert first.terminate() == 0
    second = start("operator-1")
    eventually(lambda: second.metric(PASSES) > 0)
    settle(second)
    assert versions(plane, namespace) == before


def test_deleted_while_no_operator_runs_a_service_is_not_kept_from_going(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    operator = start()
    apply(plane, service(namespace))
    eventually(lambda: condition(plane, namespace, "Ready")["reason"] != "")
    resource = get(plane, namespace, "modelservice/smol")
    assert "finalizers" not in resource["metadata"]
    assert "annotations" not in resource["metadata"] or not [
        name for name in resource["metadata"]["annotations"] if "kopf" in name
    ]
    owned = children(plane, namespace) + listed(plane, namespace, "secrets")
    uid = resource["metadata"]["uid"]
    for child in owned:  # the garbage collector, which is not here, goes by these
        (reference,) = child["metadata"]["ownerReferences"]
        assert (reference["uid"], reference["blockOwnerDeletion"]) == (uid, True)
    kubectl(plane, "delete", "modelservice/smol", "-n", namespace, "--timeout=10s")
    kubectl(plane, "delete", "deployment/smol-decode", "-n", namespace)
    settle(operator)
    assert plane.kubectl("get", "deployment/smol-decode", "-n", namespace).returncode != 0
    gauge = f'baton_operator_service_ready{{namespace="{namespace}",service="smol"}}'
    assert gauge not in operator.page()


def test_of_two_operators_one_leads_and_the_other_takes_over(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    first, second = start("operator-a"), start("operator-b")
    eventually(lambda: first.leads != second.leads)
    leader, standby = (first, second) if first.leads else (second, first)
    assert standby.ready
    assert standby.metric(PASSES) == 0
    apply(plane, service(namespace))
    eventually(lambda: condition(plane, namespace, "Ready")["reason"] != "")
    before = versions(plane, namespace)
    leader.kill()  # it lets go of nothing: the Lease has to run out
    eventually(lambda: standby.leads)
    eventually(lambda: standby.metric(PASSES) > 0)
    settle(standby)
    assert versions(plane, namespace) == before


def test_a_frozen_leader_steps_down_before_it_does_anything(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    first = start("operator-a")
    eventually(lambda: first.leads)
    second = start("operator-b")
    first.freeze()
    eventually(lambda: second.leads)
    first.thaw()
    eventually(lambda: not first.leads)
    assert second.leads
    assert first.ready


def test_an_api_server_that_was_away_finds_what_changed_reconciled(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    operator = start()
    apply(plane, service(namespace))
    eventually(lambda: condition(plane, namespace, "Ready")["reason"] != "")
    plane.kill_api_server()
    eventually(lambda: not operator.leads)  # it cannot know whether another one leads
    plane.start_api_server()
    kubectl(plane, "delete", "service/smol", "-n", namespace)
    eventually(lambda: operator.leads)
    eventually(lambda: plane.kubectl("get", "service/smol", "-n", namespace).returncode == 0)
    apply(plane, service(namespace, decode={"replicas": 4}))
    eventually(lambda: deployment(plane, namespace, "decode")["spec"]["replicas"] == 4)


def test_an_operator_of_one_namespace_needs_no_more_than_that(
    plane: ControlPlane, namespace: str, tmp_path: Path, start: Callable[..., OperatorProcess]
) -> None:
    rbac = chart_rbac("two", f"watchNamespaces={{{namespace}}}")
    assert "ClusterRole" not in rbac
    kubectl(plane, "apply", "--filename=-", document=rbac)
    user = f"system:serviceaccount:{SYSTEM}:{service_account(rbac)}"
    limited = plane.write_user(tmp_path / "limited.conf", user)
    lease = ("--lease-name", lease_name(rbac))
    operator = start("operator-two", "--namespaces", namespace, *lease, kubeconfig=limited)
    apply(plane, service(namespace))
    apply(plane, service("default"))
    eventually(lambda: condition(plane, namespace, "Ready")["reason"] != "")
    settle(operator)
    assert condition(plane, "default", "Ready")["reason"] == ""
    kubectl(plane, "delete", "modelservice/smol", "-n", "default")
