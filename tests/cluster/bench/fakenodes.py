"""A control plane whose nodes are kwok's: pods become Ready there, and no container runs.

Everything is on loopback and the caller's, who must have a network and process ids of his own
(see `__main__`): pods' addresses are routed to loopback, so that `routers` can answer for all
of them. Knows no operator.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.harness.binaries import ETCD, KUBERNETES, KWOK, cache_folder
from cluster.harness.commands import run
from support.control_plane import ControlPlane

PROGRAMS = (ETCD, KUBERNETES, KWOK)
NODES = 10
NODE_PODS = 1_000
POD_CIDR = "10.32.0.0/16"
AUDIT_LOG = "audit.log"

# The defaults are for clusters that are not filled within minutes.
FAST = ("--kube-api-qps=500", "--kube-api-burst=1000")


def programs_folder() -> Path:
    return cache_folder(Path.home() / ".cache" / "baton-cluster")


@contextmanager
def fake_cluster(folder: Path, watched_user: str) -> Iterator[ControlPlane]:
    """One that runs; calls of `watched_user` are written to AUDIT_LOG in `folder`."""
    for command in ("link set lo up", f"route add local {POD_CIDR} dev lo"):
        run(("ip", *command.split()))
    policy = folder / "audit-policy.yaml"
    policy.write_text(json.dumps(_audit_policy(watched_user)))
    audit = (f"--audit-policy-file={policy}", f"--audit-log-path={folder / AUDIT_LOG}")
    plane = ControlPlane(folder, programs_folder(), audit)
    try:
        plane.start()
        _start_controllers(plane, folder)
        nodes = {"apiVersion": "v1", "kind": "List", "items": [_node(n) for n in range(NODES)]}
        answer = plane.kubectl("create", "--filename=-", document=json.dumps(nodes))
        assert answer.returncode == 0, answer.stderr
        yield plane
    finally:
        plane.stop()


def _start_controllers(plane: ControlPlane, folder: Path) -> None:
    plane.start_beside(
        "kube-controller-manager",
        f"--service-account-private-key-file={folder}/pki/sa.key",
        f"--root-ca-file={folder}/pki/ca.crt",
        "--leader-elect=false",
        "--concurrent-deployment-syncs=10",
        "--profiling=false",
        # A busy machine delays kwok's heartbeats, and pods of a silent node are no more Ready.
        "--node-monitor-grace-period=1h",
        *FAST,
    )
    plane.start_beside("kube-scheduler", "--leader-elect=false", "--profiling=false", *FAST)
    plane.start_beside("kwok", "--manage-all-nodes=true", f"--cidr={POD_CIDR}")


def _node(number: int) -> dict[str, object]:
    capacity = {"cpu": "1000", "memory": "10Ti", "pods": str(NODE_PODS)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"fake-{number}",
            "labels": {"kubernetes.io/hostname": f"fake-{number}", "type": "kwok"},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def _audit_policy(user: str) -> dict[str, object]:
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "users": [user]}, {"level": "None"}],
    }
