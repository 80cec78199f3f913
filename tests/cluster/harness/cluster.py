"""The cluster as tests see it: kubectl, helm, namespaces, addresses, images, faults.

It is the one that KUBECONFIG names, or our own two nodes. Does not know how either was made.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.harness import images, lifecycle
from cluster.harness.commands import COMMAND_LIMIT_S, run, succeeds, until
from cluster.harness.errors import ClusterUnavailable, HarnessError
from cluster.harness.faults import Faults
from cluster.harness.layout import Layout, Node

VENV_PROGRAMS = Path(sys.executable).parent  # where helm's wheel puts it
Json = dict[str, Any]  # an object of the API server

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
ACCOUNT_LIMIT_S = 30.0  # the controller makes a namespace's service account within a second


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster. `layout` is None when it is not ours: then there are no nodes and no faults."""

    kubeconfig: Path
    layout: Layout | None

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.layout.nodes if self.layout else ()

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command line starts with to reach pods and Services by their addresses."""
        return self.layout.nodes[0].inside if self.layout else ()

    @property
    def faults(self) -> Faults:
        """Raises ClusterUnavailable where only our own cluster can be broken."""
        if self.layout is None:
            raise ClusterUnavailable("faults are made in our own cluster only: unset KUBECONFIG")
        return Faults(self.layout)

    def command(self, program: str) -> tuple[str, ...]:
        """Command line that `kubectl` or `helm` starts with, for this cluster."""
        folder = self.layout.binaries if self.layout and program == "kubectl" else VENV_PROGRAMS
        path = folder / program
        known = str(path) if path.exists() else program
        return (*self.inside, known, f"--kubeconfig={self.kubeconfig}")

    def kubectl(
        self,
        *arguments: str,
        namespace: str | None = None,
        stdin: str | None = None,
        limit_s: float = COMMAND_LIMIT_S,
    ) -> str:
        """What kubectl wrote to stdout. Raises CommandFailed, LimitReached."""
        where = ("--namespace", namespace) if namespace else ()
        argv = (*self.command("kubectl"), *where, *arguments)
        return run(argv, stdin=stdin, limit_s=limit_s)

    def helm(
        self, *arguments: str, namespace: str | None = None, limit_s: float = COMMAND_LIMIT_S
    ) -> str:
        """What helm wrote to stdout. Raises CommandFailed, LimitReached."""
        where = ("--namespace", namespace) if namespace else ()
        return run((*self.command("helm"), *where, *arguments), limit_s=limit_s)

    def read(self, *what: str, namespace: str | None = None) -> Json:
        """`kubectl get` of an object, or of a list with its "items"."""
        text = self.kubectl("get", *what, "--output=json", namespace=namespace)
        document: Json = json.loads(text)
        return document

    def apply(self, *manifests: Mapping[str, object], namespace: str | None = None) -> None:
        """Server-side, so that two writers of one field are told of each other."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        apply = ("apply", "--server-side", "--filename=-")
        self.kubectl(*apply, namespace=namespace, stdin=json.dumps(document))

    def make_namespace(self, name: str, labels: Mapping[str, str] = RESTRICTED) -> None:
        """A namespace in which pods can be made. Raises LimitReached."""
        metadata = {"name": name, "labels": dict(labels)}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        account = (*self.command("kubectl"), "-n", name, "get", "serviceaccount", "default")
        what = f"namespace {name} has its service account"
        until(lambda: succeeds(account), limit_s=ACCOUNT_LIMIT_S, what=what)

    def remove_namespace(self, name: str, *, limit_s: float = COMMAND_LIMIT_S) -> None:
        """Returns when all that was in it is gone. Raises LimitReached."""
        delete = ("delete", "namespace", name, "--ignore-not-found")
        self.kubectl(*delete, f"--timeout={limit_s:.0f}s", limit_s=limit_s + 10)

    def service_address(self, namespace: str, name: str) -> str:
        """The ClusterIP: tests in the node's network reach it, though they know no cluster DNS."""
        address: str = self.read("service", name, namespace=namespace)["spec"]["clusterIP"]
        return address

    def pod_addresses(self, namespace: str, selector: str) -> dict[str, str]:
        """Pod name -> address, of the pods that have one."""
        pods = self.read("pods", f"--selector={selector}", namespace=namespace)["items"]
        return {
            pod["metadata"]["name"]: pod["status"]["podIP"]
            for pod in pods
            if "podIP" in pod["status"]
        }

    def load_image(self, archive: Path, nodes: Sequence[Node] | None = None) -> None:
        """An OCI or docker archive, into every node. A foreign cluster must have it already."""
        images.load(self.nodes if nodes is None else nodes, archive, say)


def foreign_kubeconfig(layout: Layout, environment: Mapping[str, str] = os.environ) -> Path | None:
    """What KUBECONFIG names, unless it is our own cluster's."""
    named = environment.get("KUBECONFIG")
    return Path(named) if named and Path(named) != layout.kubeconfig else None


def connect(environment: Mapping[str, str] = os.environ) -> Cluster:
    """The cluster there is. Raises ClusterUnavailable without one.

    One that was asked for and does not answer is a HarnessError: nothing to skip quietly.
    """
    layout = lifecycle.default_layout()
    foreign = foreign_kubeconfig(layout, environment)
    if foreign is None:
        if not lifecycle.running(layout):
            raise ClusterUnavailable("no cluster: `make cluster-up` makes one")
        return Cluster(layout.kubeconfig, layout)
    cluster = Cluster(foreign, None)
    if not succeeds((*cluster.command("kubectl"), "get", "--raw=/readyz"), limit_s=30):
        raise HarnessError(f"the cluster of KUBECONFIG ({foreign}) does not answer")
    return cluster


def say(line: str) -> None:
    """Progress, for whoever waits."""
    print(f"cluster: {line}", file=sys.stderr, flush=True)
