"""The nodes' network: a namespace each, a cable between them, no way out to the machine's network.

Knows no Kubernetes. The first node's eth0 is a bridge, so that it has an address and carries the
others' cables; there is no dummy device on small kernels.
"""

from pathlib import Path

from cluster.harness.commands import run
from cluster.harness.layout import NODE_PREFIX_BITS, Node

MOUNTED = Path("/var/run/netns")  # where `ip netns` keeps them


def make(nodes: tuple[Node, ...]) -> None:
    """Namespaces, devices, addresses and routes for `nodes`, which must not exist."""
    first = nodes[0]
    for node in nodes:
        run(("ip", "netns", "add", node.netns))
        _ip(node, "link set lo up")
    _ip(first, "link add eth0 type bridge")
    for node in nodes[1:]:
        _ip(first, f"link add {cable(node)} type veth peer name eth0 netns {node.netns}")
        _ip(first, f"link set {cable(node)} master eth0 up")
    for node in nodes:
        _ip(node, f"addr add {node.address}/{NODE_PREFIX_BITS} dev eth0")
        _ip(node, "link set eth0 up")
        # A default route, though nothing answers there: kube-proxy and CNI look for one.
        _ip(node, "route add default dev eth0")
        run((*node.inside, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
    for node in nodes:
        for other in nodes:
            if other is not node:
                _ip(node, f"route add {other.pod_cidr} via {other.address}")


def remove(nodes: tuple[Node, ...]) -> None:
    """Removes the namespaces that exist; their devices and rules go with them."""
    for node in nodes:
        if (MOUNTED / node.netns).exists():
            run(("ip", "netns", "del", node.netns))


def cable(node: Node) -> str:
    """The first node's end of the cable to `node`."""
    return f"to-{node.name}"


def _ip(node: Node, command: str) -> None:
    run(("ip", "-n", node.netns, *command.split()))
