"""Who may reach whom, by Kubernetes' rules for NetworkPolicies: no policy allows all, some policies
allow what any of them allows, and both ends must agree.

Follows the API's definition, not a network plugin. Knows pods by namespace and labels; whatever is
no pod (the API server, the internet) has neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NAMESPACE_LABEL = "kubernetes.io/metadata.name"  # every namespace has it

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pod; with an empty namespace, something outside."""

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def may_reach(
    policies: Sequence[Object], source: Endpoint, target: Endpoint, port: int, protocol: str = "TCP"
) -> bool:
    return all(
        _allowed(policies, one, other, kind, port, protocol)
        for one, other, kind in ((source, target, "Egress"), (target, source, "Ingress"))
    )


def _allowed(
    policies: Sequence[Object], pod: Endpoint, peer: Endpoint, kind: str, port: int, protocol: str
) -> bool:
    """Whether the policies of `pod` let it have this traffic with `peer`."""
    binding = [
        policy["spec"]
        for policy in policies
        if kind in policy["spec"]["policyTypes"]
        and policy["metadata"]["namespace"] == pod.namespace
        and matches(policy["spec"]["podSelector"], pod.labels)
    ]
    field_name, peers_name = ("egress", "to") if kind == "Egress" else ("ingress", "from")
    return not binding or any(
        _port_allowed(rule.get("ports"), port, protocol)
        and _peer_allowed(rule.get(peers_name), peer, spec_namespace=pod.namespace)
        for spec in binding
        for rule in spec.get(field_name, [])
    )


def _port_allowed(ports: Sequence[Object] | None, port: int, protocol: str) -> bool:
    return not ports or any(
        one.get("port") == port and one.get("protocol", "TCP") == protocol for one in ports
    )


def _peer_allowed(peers: Sequence[Object] | None, peer: Endpoint, *, spec_namespace: str) -> bool:
    if not peers:
        return True
    return any(_is_peer(one, peer, spec_namespace) for one in peers)


def _is_peer(said: Object, peer: Endpoint, own_namespace: str) -> bool:
    if "ipBlock" in said:
        return not peer.namespace
    if not peer.namespace:
        return False
    if "namespaceSelector" in said:
        if not matches(said["namespaceSelector"], {NAMESPACE_LABEL: peer.namespace}):
            return False
    elif peer.namespace != own_namespace:
        return False
    return matches(said.get("podSelector", {}), peer.labels)


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """A label selector of Kubernetes; an empty one matches everything."""
    equal = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return equal and all(_expression(one, labels) for one in selector.get("matchExpressions", []))


def _expression(said: Object, labels: Mapping[str, str]) -> bool:
    match said["operator"]:
        case "In":
            return labels.get(said["key"]) in said["values"]
        case "NotIn":
            return labels.get(said["key"]) not in said["values"]
        case "Exists":
            return said["key"] in labels
        case "DoesNotExist":
            return said["key"] not in labels
    raise ValueError(f"no such operator: {said['operator']}")
