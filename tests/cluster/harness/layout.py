"""Where everything of the test cluster lies: names, addresses, files. Pure; touches nothing.

All of it is fixed, so that a run finds, and clears away, what a killed run before it left behind.
There is one cluster per machine and user.
"""

from dataclasses import dataclass
from pathlib import Path

SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"  # the first of SERVICE_CIDR: Service kubernetes.default
POD_CIDR = "10.244.0.0/16"
NODE_PREFIX_BITS = 24
API_PORT = 6443
REPOSITORY = Path(__file__).resolve().parents[3]
TESTS_END_VARIABLE = "BATON_CLUSTER_TESTS_END"  # Unix seconds after which no test begins


@dataclass(frozen=True, slots=True)
class Node:
    """One node: a network namespace with a containerd, a kubelet and a kube-proxy of its own."""

    name: str
    address: str
    pod_cidr: str
    folder: Path
    content: Path  # containerd's root: outlives the cluster, for images take minutes to import

    @property
    def netns(self) -> str:
        return f"baton-{self.name}"

    @property
    def cgroup(self) -> str:
        """Folder in each hierarchy. One each, else one kubelet tidies away the other's pods."""
        return f"baton-{self.name}"

    @property
    def socket(self) -> Path:
        """containerd's."""
        return self.folder / "containerd.sock"

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command line starts with to run in this node's network.

        Not `ip netns exec`: that one remounts /sys and hides the cgroup hierarchies.
        """
        return ("nsenter", f"--net=/var/run/netns/{self.netns}", "--")


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of the cluster below one cache folder."""

    cache: Path
    binaries: Path

    @property
    def run(self) -> Path:
        """All that one cluster's life leaves on disk; removed when it goes down."""
        return self.cache / "run"

    @property
    def logs(self) -> Path:
        return self.run / "log"

    @property
    def pki(self) -> Path:
        return self.run / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.run / "admin.conf"

    @property
    def nodes(self) -> tuple[Node, Node]:
        """The first carries the control plane too."""
        return self._node(0), self._node(1)

    @property
    def api_url(self) -> str:
        return f"https://{self.nodes[0].address}:{API_PORT}"

    def _node(self, index: int) -> Node:
        name = f"node{index}"
        return Node(
            name=name,
            address=f"10.240.0.{2 + index}",
            pod_cidr=f"10.244.{index}.0/24",
            folder=self.run / name,
            content=self.cache / f"containerd-{name}",
        )
