"""What the operator's objects are called, labelled and reached by. Pure and deterministic.

A child's name follows from its service's name and its role, so nothing has to be remembered.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from baton_operator.api import GROUP, KIND, VERSION
from baton_operator.manifest import Json

FIELD_MANAGER = "baton-operator"
"""Of every server-side apply: which fields of a child are ours is recorded under this name."""

HTTP_PORT = 8000
GRPC_PORT = 7000
METRICS_PORT = 9090


class Role(Enum):
    ROUTER = "router"
    PREFILL = "prefill"
    DECODE = "decode"


WORKER_ROLES: Final = (Role.PREFILL, Role.DECODE)


@dataclass(frozen=True, slots=True)
class Owner:
    """The ModelService whose children are made."""

    name: str
    namespace: str
    uid: str

    def child(self, role: Role) -> str:
        """The name of everything that belongs to a role."""
        return f"{self.name}-{role.value}"

    @property
    def endpoint(self) -> str:
        """Where clients reach the OpenAI API."""
        return f"http://{self.name}.{self.namespace}.svc:{HTTP_PORT}/v1"

    def members(self, role: Role) -> str:
        """A role's workers, for the router: every address behind the headless Service."""
        return f"endpoints://{self.namespace}/{self.child(role)}:{GRPC_PORT}"

    @property
    def tls_name(self) -> str:
        """The DNS name in the certificate of every pod: they are one service to each other."""
        return f"{self.name}.{self.namespace}.baton"

    @property
    def tls_secret(self) -> str:
        """The Secret that every pod mounts: certificate, key, and the CAs to trust."""
        return f"{self.name}-tls"

    @property
    def ca_secret(self) -> str:
        """The Secret of the CA, which no pod mounts."""
        return f"{self.name}-ca"

    @property
    def service_labels(self) -> dict[str, str]:
        """Of everything that belongs to the service, whatever the role."""
        return {
            "app.kubernetes.io/name": "baton",
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/managed-by": FIELD_MANAGER,
        }

    def selector(self, role: Role) -> dict[str, str]:
        """Labels that only the pods of this role of this service have; they never change."""
        return {
            "app.kubernetes.io/name": "baton",
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/component": role.value,
        }

    def labels(self, role: Role) -> dict[str, str]:
        ours = {**self.selector(role), "app.kubernetes.io/managed-by": FIELD_MANAGER}
        if role in WORKER_ROLES:
            # The Gateway API endpoint picker reads vLLM's metric names from pods with this label.
            ours["llm-d.ai/engine-type"] = "vllm"
        return ours

    def metadata(self, role: Role, name: str | None = None) -> dict[str, Json]:
        return self.named(name or self.child(role), self.labels(role))

    def named(self, name: str, labels: dict[str, str]) -> dict[str, Json]:
        """The metadata of a child: the API server deletes it once its ModelService is gone."""
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": f"{GROUP}/{VERSION}",
                    "kind": KIND,
                    "name": self.name,
                    "uid": self.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        }
