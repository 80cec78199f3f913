"""From a ModelService to the objects that should exist for it. Pure: spec in, manifests out.

Deterministic: the same spec and replicas give the same manifests, byte for byte. Knows no cluster
and no present state; how many pods a scaled role should have comes in as an argument.
"""

from collections.abc import Mapping
from typing import assert_never

from baton_operator.api import ModelServiceSpec, WorkerRole
from baton_operator.collectors import Anywhere, InNamespace, OneAddress
from baton_operator.manifest import Json, Manifest
from baton_operator.names import (
    GRPC_PORT,
    HTTP_PORT,
    METRICS_PORT,
    WORKER_ROLES,
    Owner,
    Role,
)
from baton_operator.pods import ReleaseImages, draft_of, pod_template
from baton_operator.sources import FetchedWeights

REVISIONS_MAX = 3  # old ReplicaSets kept for `kubectl rollout undo`
PROGRESS_DEADLINE_S = 3_600
"""A rollout that has not moved for so long has failed: longer than fetching and loading take."""

Replicas = Mapping[Role, int | None]
"""Of the worker roles that scale; None or absent: the field is somebody else's."""

_DNS_PORTS: Json = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]

_API_SERVER_PORTS: Json = [{"protocol": "TCP", "port": port} for port in (443, 6443)]
"""Of the Service, and of the server behind it: some networks look before, some after that. Its
address is nobody's to know, so the port is all that can be said."""

NAMESPACE_LABEL = "kubernetes.io/metadata.name"
"""Every namespace has it, and nobody can change it."""


def desired_manifests(
    owner: Owner, spec: ModelServiceSpec, replicas: Replicas, release: ReleaseImages
) -> tuple[Manifest, ...]:
    """Every object that should exist, in no particular order."""
    children = [
        manifest
        for role in roles_of(spec)
        for manifest in (
            _service_account(owner, role),
            _network_policy(owner, spec, role),
            _disruption_budget(owner, role),
            _service(owner, role),
            _deployment(owner, spec, role, replicas, release),
        )
    ]
    return (*children, _discovery_role(owner), _discovery_binding(owner))


def roles_of(spec: ModelServiceSpec) -> tuple[Role, ...]:
    """The roles this service has."""
    prefill = (Role.PREFILL,) if spec.prefill is not None else ()
    return (*prefill, Role.DECODE, Role.ROUTER)


def worker_role(spec: ModelServiceSpec, role: Role) -> WorkerRole | None:
    """What the spec says of a worker role; None for the router and for a role that is not there."""
    return {Role.PREFILL: spec.prefill, Role.DECODE: spec.decode}.get(role)


def fixed_replicas(spec: ModelServiceSpec, role: Role) -> int | None:
    """The number of pods that the spec fixes; None: the role scales."""
    worker = worker_role(spec, role)
    if worker is None:
        return spec.router.replicas
    if worker.scaling is not None:
        return None
    return worker.replicas if worker.replicas is not None else 1


def _deployment(
    owner: Owner, spec: ModelServiceSpec, role: Role, replicas: Replicas, release: ReleaseImages
) -> Manifest:
    count = fixed_replicas(spec, role)
    if count is None:
        count = replicas.get(role)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": owner.metadata(role),
        "spec": {
            **({} if count is None else {"replicas": count}),
            "selector": {"matchLabels": owner.selector(role)},
            # A new pod serves before an old one goes: a rollout takes no capacity away.
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "revisionHistoryLimit": REVISIONS_MAX,
            "progressDeadlineSeconds": PROGRESS_DEADLINE_S,
            "template": pod_template(owner, spec, role, release),
        },
    }


def _service(owner: Owner, role: Role) -> Manifest:
    if role is Role.ROUTER:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": owner.metadata(role, owner.name),
            "spec": {
                "type": "ClusterIP",
                "selector": owner.selector(role),
                "ports": [_port("http", HTTP_PORT)],
            },
        }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(role),
        "spec": {
            "clusterIP": "None",
            # Workers say themselves whether they are ready; one that drains must still be heard.
            "publishNotReadyAddresses": True,
            "selector": owner.selector(role),
            "ports": [_port("grpc", GRPC_PORT)],
        },
    }


def _port(name: str, number: int) -> Json:
    return {"name": name, "port": number, "targetPort": name, "protocol": "TCP"}


def _service_account(owner: Owner, role: Role) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": owner.metadata(role),
        "automountServiceAccountToken": False,
    }


def _discovery_role(owner: Owner) -> Manifest:
    """What a router may ask the API server: where workers are, in its own namespace."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": owner.metadata(Role.ROUTER),
        "rules": [
            {
                "apiGroups": ["discovery.k8s.io"],
                "resources": ["endpointslices"],
                "verbs": ["get", "list", "watch"],
            }
        ],
    }


def _discovery_binding(owner: Owner) -> Manifest:
    name = owner.child(Role.ROUTER)
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": owner.metadata(Role.ROUTER),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": owner.namespace}],
    }


def _disruption_budget(owner: Owner, role: Role) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": owner.metadata(role),
        "spec": {
            "maxUnavailable": 1,
            # A pod that serves nobody must not keep its node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": owner.selector(role)},
        },
    }


def _network_policy(owner: Owner, spec: ModelServiceSpec, role: Role) -> Manifest:
    """Who may call whom: clients the router, the router both worker roles, decode prefill."""
    rules: dict[str, Json] = {
        "podSelector": {"matchLabels": owner.selector(role)},
        "policyTypes": ["Ingress"],
        "ingress": _ingress(owner, role),
    }
    weights = (spec.model.source.weights, draft_of(spec, role))
    if not any(isinstance(one, FetchedWeights) for one in weights):
        # A pod that fetches its weights may have to go anywhere; no other one may.
        rules |= {"policyTypes": ["Ingress", "Egress"], "egress": _egress(owner, spec, role)}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": owner.metadata(role),
        "spec": rules,
    }


def _ingress(owner: Owner, role: Role) -> list[Json]:
    # Prometheus and the operator may be in any namespace.
    metrics: Json = {"ports": [_allowed(METRICS_PORT)]}
    if role is Role.ROUTER:
        return [{"ports": [_allowed(HTTP_PORT)]}, metrics]
    callers = (Role.ROUTER,) if role is Role.DECODE else (Role.ROUTER, Role.DECODE)
    return [
        {"from": [_peer(owner, caller) for caller in callers], "ports": [_allowed(GRPC_PORT)]},
        metrics,
    ]


def _egress(owner: Owner, spec: ModelServiceSpec, role: Role) -> list[Json]:
    called = {
        Role.ROUTER: WORKER_ROLES,
        Role.DECODE: (Role.PREFILL,),
        Role.PREFILL: (),
    }[role]
    peers: list[Json] = [_peer(owner, one) for one in called if one in roles_of(spec)]
    workers: list[Json] = [{"to": peers, "ports": [_allowed(GRPC_PORT)]}] if peers else []
    discovery: list[Json] = [{"ports": _API_SERVER_PORTS}] if role is Role.ROUTER else []
    return [{"ports": _DNS_PORTS}, *discovery, *workers, *_to_collector(owner, spec)]


def _to_collector(owner: Owner, spec: ModelServiceSpec) -> list[Json]:
    """As near to the collector as a policy, which knows no names, can say."""
    if spec.tracing is None:
        return []
    ports: list[Json] = [_allowed(spec.tracing.endpoint.port)]
    match spec.tracing.endpoint.place:
        case OneAddress(cidr):
            return [{"to": [{"ipBlock": {"cidr": cidr}}], "ports": ports}]
        case InNamespace(name):
            labels: Json = {NAMESPACE_LABEL: name or owner.namespace}
            return [{"to": [{"namespaceSelector": {"matchLabels": labels}}], "ports": ports}]
        case Anywhere():
            return [{"ports": ports}]
        case _:
            assert_never(spec.tracing.endpoint.place)


def _peer(owner: Owner, role: Role) -> Json:
    return {"podSelector": {"matchLabels": owner.selector(role)}}


def _allowed(number: int) -> Json:
    return {"protocol": "TCP", "port": number}
