"""What pods may do, and who may call whom."""

import json
from typing import Any

import pytest
from baton_operator.desired import desired_manifests
from baton_operator.names import GRPC_PORT
from support.model_services import OWNER, RELEASE, spec_of

ROLES = ("router", "prefill", "decode")


def manifests(**spec: Any) -> Any:
    """By kind and name."""
    made = desired_manifests(OWNER, spec_of(**spec), {}, RELEASE)
    return {(one["kind"], one["metadata"]["name"]): one for one in json.loads(json.dumps(made))}


def pod_of(role: str, **spec: Any) -> Any:
    return manifests(**spec)[("Deployment", f"smol-{role}")]["spec"]["template"]["spec"]


def test_the_key_of_the_ca_is_mounted_nowhere() -> None:
    assert OWNER.ca_secret not in json.dumps(list(manifests().values()))


def test_only_routers_may_ask_the_api_server_and_only_for_endpoints() -> None:
    made = manifests()
    (rule,) = made[("Role", "smol-router")]["rules"]
    assert rule["apiGroups"] == ["discovery.k8s.io"]
    assert rule["resources"] == ["endpointslices"]
    assert rule["verbs"] == ["get", "list", "watch"]
    binding = made[("RoleBinding", "smol-router")]
    (subject,) = binding["subjects"]
    assert (subject["name"], subject["namespace"]) == ("smol-router", "models")
    assert binding["roleRef"]["name"] == "smol-router"
    tokens = {role: pod_of(role)["automountServiceAccountToken"] for role in ROLES}
    assert tokens == {"router": True, "prefill": False, "decode": False}
    for role in ROLES:
        assert made[("ServiceAccount", f"smol-{role}")]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "source", ["oci://w:v1/m.gguf", "pip://p==1#m.gguf", "pvc://c/m.gguf", "file:///m.gguf"]
)
def test_every_container_is_restricted(role: str, source: str) -> None:
    pod = pod_of(role, model={"name": "m", "source": source})
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_selectors_select_exactly_the_pods_of_their_role() -> None:
    made = manifests()
    pods = {
        role: made[("Deployment", f"smol-{role}")]["spec"]["template"]["metadata"]["labels"]
        for role in ROLES
    }

    def selected(selector: dict[str, str]) -> list[str]:
        return [role for role, labels in pods.items() if selector.items() <= labels.items()]

    for role in ROLES:
        deployment = made[("Deployment", f"smol-{role}")]["spec"]
        assert selected(deployment["selector"]["matchLabels"]) == [role]
        budget = made[("PodDisruptionBudget", f"smol-{role}")]["spec"]
        assert selected(budget["selector"]["matchLabels"]) == [role]
        policy = made[("NetworkPolicy", f"smol-{role}")]["spec"]
        assert selected(policy["podSelector"]["matchLabels"]) == [role]
        name = "smol" if role == "router" else f"smol-{role}"
        assert selected(made[("Service", name)]["spec"]["selector"]) == [role]


@pytest.mark.parametrize("source", ["pvc://c/m.gguf", "pip://p==1#m.gguf"])
def test_who_may_call_whom(source: str) -> None:
    """Clients the router; the router both worker roles; decode prefill; nobody anybody else."""
    made = manifests(model={"name": "m", "source": source})

    def called(policy: Any, direction: str, peers: str) -> set[str]:
        return {
            peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            for rule in policy["spec"].get(direction, [])
            if rule["ports"] == [{"protocol": "TCP", "port": GRPC_PORT}]
            for peer in rule[peers]
        }

    callers = {"router": set(), "prefill": {"router", "decode"}, "decode": {"router"}}
    for role in ROLES:
        policy = made[("NetworkPolicy", f"smol-{role}")]
        assert called(policy, "ingress", "from") == callers[role]
        if source.startswith("pip"):
            assert policy["spec"]["policyTypes"] == ["Ingress"]  # it must fetch from somewhere
        else:
            may_call = {callee for callee in ROLES if role in callers[callee]}
            assert called(policy, "egress", "to") == may_call
            assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_everybody_may_ask_for_metrics_and_clients_reach_routers_alone() -> None:
    made = manifests()
    for role, ports in (("router", {8000, 9090}), ("prefill", {9090}), ("decode", {9090})):
        rules = made[("NetworkPolicy", f"smol-{role}")]["spec"]["ingress"]
        open_to_all = {
            port["port"] for rule in rules if "from" not in rule for port in rule["ports"]
        }
        assert open_to_all == ports


def test_routers_reach_the_api_server_and_workers_do_not() -> None:
    made = manifests(model={"name": "m", "source": "pvc://c/m.gguf"})
    for role in ROLES:
        rules = made[("NetworkPolicy", f"smol-{role}")]["spec"]["egress"]
        anywhere = {port["port"] for rule in rules if "to" not in rule for port in rule["ports"]}
        assert anywhere == ({53, 443, 6443} if role == "router" else {53})
