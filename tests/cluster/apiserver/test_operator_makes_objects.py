"""What a ModelService becomes, and which ones are refused: asked of a real API server."""

import json
from collections.abc import Callable

import pytest
from cryptography import x509
from support.control_plane import ControlPlane
from support.operator_plane import (
    PASSES,
    SOURCE,
    Json,
    apply,
    become_ready,
    certificates,
    children,
    condition,
    deployment,
    eventually,
    foreign_changes_only,
    get,
    history,
    kubectl,
    listed,
    make_pod,
    service,
    settle,
    touch_every_child,
    versions,
)
from support.operator_process import OperatorProcess
from support.signalling_router import fake_router


def test_a_service_becomes_its_objects_and_then_nothing_is_written(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    operator = start()
    apply(plane, service(namespace))
    eventually(lambda: condition(plane, namespace, "Ready")["reason"] == "Pending")
    names = {(one["kind"], one["metadata"]["name"]) for one in children(plane, namespace)}
    roles = ("router", "prefill", "decode")
    kinds = ("ServiceAccount", "NetworkPolicy", "PodDisruptionBudget", "Deployment")
    assert names == {
        *((kind, f"smol-{role}") for kind in kinds for role in roles),
        ("Role", "smol-router"),
        ("RoleBinding", "smol-router"),
        *(("Service", name) for name in ("smol", "smol-prefill", "smol-decode")),
    }
    become_ready(plane, namespace)
    eventually(lambda: condition(plane, namespace, "Ready")["status"] == "True")
    settle(operator)
    before = versions(plane, namespace)
    passes = operator.metric(PASSES)
    touch_every_child(plane, namespace)  # a pass, and no write of ours
    eventually(lambda: operator.metric(PASSES) > passes)
    settle(operator)
    assert foreign_changes_only(before, versions(plane, namespace))
    events = {one["reason"] for one in listed(plane, namespace, "events.events.k8s.io")}
    assert {"ServiceNotReady", "ServiceReady", "AllReady"} <= events


def test_kubectl_shows_the_columns(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    start()
    apply(plane, service(namespace))
    eventually(lambda: condition(plane, namespace, "Ready")["reason"] != "")
    header, row = kubectl(plane, "get", "msvc", "-n", namespace).splitlines()
    assert header.split() == [
        *("NAME", "MODEL", "READY", "REASON", "ROUTER", "PREFILL", "DECODE", "AGE")
    ]
    assert row.split()[:7] == ["smol", "smollm2-135m", "False", "Pending", "0/2", "0/1", "0/2"]


DRAFT = {"source": "pvc://drafts/tiny.gguf"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decode": {"replicas": 1, "scaling": {"maxReplicas": 2}}}, "exclude each other"),
        ({"model": {"name": "m", "source": "s3://bucket"}}, "write the source as pvc://"),
        ({"slo": None}, "give slo.ttft and slo.itl"),
        ({"slo": {"ttft": "500", "itl": "50ms"}}, "such as 500ms"),
        ({"decode": {"replicas": 0}}, "greater than or equal to 1"),
        ({"decode": {"scaling": {"minReplicas": 3, "maxReplicas": 2}}}, "raise maxReplicas"),
        ({"decode": {"engine": {"speculation": "ouija"}}}, '"prompt-lookup", "draft-model"'),
        ({"decode": {"engine": {"speculation": "draft-model"}}}, "give draftModel.source"),
        ({"decode": {"engine": {"draftModel": DRAFT}}}, "write that, or drop draftModel"),
        (
            {"decode": {"engine": {"speculation": "none", "draftModel": DRAFT}}},
            "write that, or drop draftModel",
        ),
        (
            {"decode": {"engine": {"speculation": "draft-model", "draftModel": {}}}},
            "spec.decode.engine.draftModel.source: Required",
        ),
        (
            {"decode": {"engine": {"speculation": "draft-model", "draftModel": {"source": "x"}}}},
            "write the source as pvc://",
        ),
        ({"prefill": {"engine": {"draftModel": DRAFT}}}, 'field "spec.prefill.engine.draftModel'),
        ({"router": {"apiKeys": {"secretName": "Our Keys"}}}, "write the name of a Secret"),
        ({"prefill": {"engine": {"speculation": "none"}}}, 'field "spec.prefill.engine.spec'),
        ({"tracing": {}}, "spec.tracing.endpoint: Required"),
        ({"tracing": {"endpoint": "otel.obs:4318"}}, "collector as http://HOST:PORT"),
        ({"tracing": {"endpoint": "http://me:key@otel:4318"}}, "without user, password"),
        ({"tracing": {"endpoint": "http://otel:4317"}}, "for OTLP over HTTP, 4318"),
        ({"tracing": {"endpoint": "http://otel:4318/v1/traces"}}, "drop /v1/traces"),
        (
            {"tracing": {"endpoint": "http://otel:4318", "sampledPercent": 101}},
            "less than or equal to 100",
        ),
        ({"decode": {"template": {"labels": {"llm-d.ai/x": "y"}}}}, "choose another prefix"),
    ],
)
def test_a_bad_spec_is_refused_with_what_to_write_instead(
    plane: ControlPlane, change: dict[str, Json], said: str
) -> None:
    answer = plane.kubectl("apply", "-f", "-", document=json.dumps(service("default", **change)))
    assert answer.returncode != 0
    assert said in answer.stderr


def test_policies_let_traces_out_to_every_kind_of_collector_and_are_written_once(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    operator = start()

    def ways_out() -> list[Json]:
        policies = listed(plane, namespace, "networkpolicies")
        return [policy["spec"]["egress"][-1] for policy in policies]

    own = {"kubernetes.io/metadata.name": namespace}
    for endpoint, to in (
        ("http://otel:4318", {"to": [{"namespaceSelector": {"matchLabels": own}}]}),
        ("http://10.1.2.3:4318", {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]}),
        ("http://[fd00::7]:4318", {"to": [{"ipBlock": {"cidr": "fd00::7/128"}}]}),
        ("https://otel.example.com:4318/x", {}),
    ):
        wanted = {"ports": [{"protocol": "TCP", "port": 4318}], **to}
        apply(plane, service(namespace, tracing={"endpoint": endpoint}))
        eventually(lambda wanted=wanted: ways_out() == [wanted] * 3)  # type: ignore[misc]
    settle(operator)
    before = versions(plane, namespace)
    passes = operator.metric(PASSES)
    touch_every_child(plane, namespace)  # what the server has filled in is not written again
    eventually(lambda: operator.metric(PASSES) > passes)
    settle(operator)
    assert foreign_changes_only(before, versions(plane, namespace))


def test_a_draft_model_comes_to_decode_alone_and_goes_again(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    operator = start()
    apply(plane, service(namespace))
    eventually(lambda: len(listed(plane, namespace, "deployments")) == 3)
    settle(operator)
    before = versions(plane, namespace)

    def brought() -> list[str]:
        spec = deployment(plane, namespace, "decode")["spec"]["template"]["spec"]
        there = [*spec["volumes"], *spec["initContainers"]]
        return [one["name"] for one in there if "draft" in one["name"]]

    for source, names in (
        ("pvc://drafts/tiny.gguf", ["baton-draft-weights"]),
        ("oci://localhost/weights:1/model/tiny.gguf", ["baton-draft-weights"] * 2),
        ("pip://tiny==1#tiny.gguf", ["baton-draft-weights"]),
    ):
        engine = {"speculation": "draft-model", "draftModel": {"source": source}}
        apply(plane, service(namespace, decode={"replicas": 2, "engine": engine}))
        eventually(lambda names=names: brought() == names)  # type: ignore[misc]
    decode = get(plane, namespace, "networkpolicy/smol-decode")
    assert decode["spec"]["policyTypes"] == ["Ingress"]  # pip goes anywhere
    apply(plane, service(namespace))
    eventually(lambda: brought() == [])
    settle(operator)
    after = versions(plane, namespace)
    changed = {name for (_, name), version in after.items() if before[_, name] != version}
    assert changed == {"smol-decode", "smol"}


def test_the_name_clients_ask_for_cannot_change(plane: ControlPlane, namespace: str) -> None:
    apply(plane, service(namespace))
    other = service(namespace, model={"name": "another", "source": SOURCE})
    answer = plane.kubectl("apply", "-f", "-", document=json.dumps(other))
    assert "create another ModelService" in answer.stderr


def test_pods_get_a_certificate_of_the_service_and_a_lost_secret_is_made_again(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    start()
    apply(plane, service(namespace))
    eventually(lambda: condition(plane, namespace, "Ready")["reason"] != "")
    leaf, bundle = certificates(plane, namespace)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [f"smol.{namespace}.baton"]
    leaf.verify_directly_issued_by(bundle[0])
    pods = deployment(plane, namespace, "decode")["spec"]["template"]
    kubectl(plane, "delete", "secret/smol-tls", "-n", namespace)
    kubectl(plane, "annotate", "deployment/smol-decode", "a=b", "-n", namespace)
    eventually(lambda: plane.kubectl("get", "secret/smol-tls", "-n", namespace).returncode == 0)
    new, same = certificates(plane, namespace)
    assert new.serial_number != leaf.serial_number
    assert [one.serial_number for one in same] == [one.serial_number for one in bundle]
    assert deployment(plane, namespace, "decode")["spec"]["template"] == pods  # no pod restarts


def test_keys_of_clients_that_are_missing_are_said_until_they_are_there(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    """With the permissions that the operator has in any case."""
    start()
    apply(plane, service(namespace, router={"apiKeys": {"secretName": "clients"}}))
    eventually(lambda: "no Secret clients" in condition(plane, namespace, "Ready")["message"])
    assert condition(plane, namespace, "RouterReady")["reason"] == "ContainerConfigInvalid"
    secret = ("create", "secret", "generic", "clients", "-n", namespace)
    kubectl(plane, *secret, "--from-literal=keys.json={}")
    kubectl(plane, "annotate", "deployment/smol-router", "a=b", "-n", namespace)  # as if it moved
    eventually(lambda: condition(plane, namespace, "RouterReady")["reason"] == "Pending")


def test_requests_that_wait_wake_a_role_from_zero_and_the_history_says_so(
    plane: ControlPlane, namespace: str, start: Callable[..., OperatorProcess]
) -> None:
    operator = start()
    scaled = {"scaling": {"minReplicas": 0, "maxReplicas": 4, "idleAfter": "1s"}}
    apply(plane, service(namespace, decode=scaled, prefill=scaled))
    eventually(lambda: condition(plane, namespace, "Ready")["reason"] != "")
    with fake_router("127.77.0.1") as router:
        running = {
            "phase": "Running",
            "podIP": "127.77.0.1",
            "podIPs": [{"ip": "127.77.0.1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        make_pod(plane, namespace, "router", "smol-router-0", running)
        eventually(lambda: deployment(plane, namespace, "decode")["spec"]["replicas"] == 0)
        assert deployment(plane, namespace, "prefill")["spec"]["replicas"] == 0
        router.requests_waiting = 3
        eventually(lambda: deployment(plane, namespace, "decode")["spec"]["replicas"] == 1)
        assert deployment(plane, namespace, "prefill")["spec"]["replicas"] == 1
        eventually(lambda: len(history(plane, namespace)) == 4)
    reasons = [(one["role"], one["reason"]) for one in history(plane, namespace)]
    assert sorted(reasons[:2]) == [("decode", "WaitingDemand"), ("prefill", "WaitingDemand")]
    assert sorted(reasons[2:]) == [("decode", "Idle"), ("prefill", "Idle")]
    labels = f'direction="up",namespace="{namespace}",reason="WaitingDemand",role="decode"'
    counted = f'baton_operator_scaling_changes_total{{{labels},service="smol"}}'
    assert operator.metric(counted) == 1
