"""The Kubernetes kinds the operator deals with, and the API paths they are under. Pure.

A table instead of discovery: the operator asks for nothing that is not in it, and neither does its
RBAC. Knows no server.
"""

from dataclasses import dataclass
from enum import Enum
from urllib.parse import quote

from baton_operator.api import GROUP, KIND, VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind as the API server serves it."""

    api_version: str
    plural: str
    kind: str

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Of all objects, those of a namespace, or the one called `name`."""
        root = "/api" if "/" not in self.api_version else "/apis"
        parts = [root, self.api_version]
        if namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        return "/".join(parts)


class Kind(Enum):
    """By their Kubernetes names."""

    MODEL_SERVICE = Resource(f"{GROUP}/{VERSION}", "modelservices", KIND)
    SERVICE_ACCOUNT = Resource("v1", "serviceaccounts", "ServiceAccount")
    ROLE = Resource("rbac.authorization.k8s.io/v1", "roles", "Role")
    ROLE_BINDING = Resource("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding")
    NETWORK_POLICY = Resource("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy")
    DISRUPTION_BUDGET = Resource("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget")
    SERVICE = Resource("v1", "services", "Service")
    DEPLOYMENT = Resource("apps/v1", "deployments", "Deployment")
    POD = Resource("v1", "pods", "Pod")
    SECRET = Resource("v1", "secrets", "Secret")
    EVENT = Resource("events.k8s.io/v1", "events", "Event")
    LEASE = Resource("coordination.k8s.io/v1", "leases", "Lease")

    @property
    def resource(self) -> Resource:
        return self.value


CHILD_KINDS = (
    Kind.SERVICE_ACCOUNT,
    Kind.ROLE,
    Kind.ROLE_BINDING,
    Kind.NETWORK_POLICY,
    Kind.DISRUPTION_BUDGET,
    Kind.SERVICE,
    Kind.DEPLOYMENT,
)
"""What `desired` makes. Secrets are made by `identity`, and are read by name only."""


def kind_named(name: str) -> Kind:
    """By the `kind` of a manifest. Raises KeyError for one the operator does not deal with."""
    return _BY_NAME[name]


_BY_NAME = {kind.resource.kind: kind for kind in Kind}
