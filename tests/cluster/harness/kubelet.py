"""A node's kubelet and kube-proxy: configuration and command lines. Knows no containerd."""

import json
from pathlib import Path

from cluster.harness.daemons import Daemon
from cluster.harness.layout import POD_CIDR, Layout, Node
from cluster.harness.pki import Authority, write_kubeconfig

PODS_MAX = 60
LEASE_S = 20  # half the default: a node cut off is noticed in a test's time
LOG_LINKS = Path("/var/log/containers")  # kubelet's, fixed: links to the logs below pod_logs


def prepare(layout: Layout, node: Node, authority: Authority) -> None:
    """Certificate, kubeconfig and configuration."""
    (node.folder / "kubelet").mkdir(parents=True, exist_ok=True)
    user = f"system:node:{node.name}"
    sans = f"{node.name} {node.address}"
    leaf = authority.issue(node.name, user, group="system:nodes", sans=sans)
    write_kubeconfig(_kubeconfig(node), server=layout.api_url, ca=layout.pki / "ca.crt", leaf=leaf)
    (node.folder / "resolv.conf").write_text(f"nameserver {layout.nodes[0].address}\n")
    _config_file(node).write_text(json.dumps(_configuration(layout, node), indent=1))


def kubelet(layout: Layout, node: Node) -> Daemon:
    argv = (
        *node.inside,
        str(layout.binaries / "kubelet"),
        f"--config={_config_file(node)}",
        f"--kubeconfig={_kubeconfig(node)}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        f"--root-dir={node.folder}/kubelet",
    )
    return Daemon(f"kubelet-{node.name}", argv, layout.run)


def proxy(layout: Layout, node: Node) -> Daemon:
    argv = (
        *node.inside,
        str(layout.binaries / "kube-proxy"),
        f"--kubeconfig={layout.run}/kube-proxy.conf",
        f"--hostname-override={node.name}",
        f"--cluster-cidr={POD_CIDR}",
        "--proxy-mode=iptables",
        "--conntrack-max-per-core=0",  # would set the machine's own limit
        "--oom-score-adj=0",  # lowering it needs a capability not all have
    )
    return Daemon(f"kube-proxy-{node.name}", argv, layout.run)


def pod_logs(node: Node) -> Path:
    return node.folder / "pods"


def unlink_logs(node: Node) -> None:
    """Removes the links that the kubelet made outside its own folders."""
    for link in LOG_LINKS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(pod_logs(node)):
            link.unlink()


def _config_file(node: Node) -> Path:
    return node.folder / "kubelet.json"


def _kubeconfig(node: Node) -> Path:
    return node.folder / "kubelet.conf"


def _configuration(layout: Layout, node: Node) -> dict[str, object]:
    x509 = {"clientCAFile": str(layout.pki / "ca.crt")}
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "x509": x509,
            "webhook": {"enabled": True},
            "anonymous": {"enabled": False},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.pki / f"{node.name}.crt"),
        "tlsPrivateKeyFile": str(layout.pki / f"{node.name}.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "enforceNodeAllocatable": [],
        "clusterDNS": [layout.nodes[0].address],
        "clusterDomain": "cluster.local",
        "resolvConf": str(node.folder / "resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{node.socket}",
        "maxPods": PODS_MAX,
        "nodeLeaseDurationSeconds": LEASE_S,
        # The machine is shared: a full disk or little memory is not the node's to mend.
        "evictionHard": {
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "memory.available": "100Mi",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "containerLogMaxSize": "5Mi",
        "podLogsDir": str(pod_logs(node)),
        "volumePluginDir": str(node.folder / "volume-plugins"),
    }
