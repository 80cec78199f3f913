"""What tests break on purpose, and mend again: the API server, the cable, its speed.

Knows the cluster's layout, not what runs in it. Every fault is a context: leaving it mends.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cluster.harness import controlplane
from cluster.harness.commands import run
from cluster.harness.errors import CommandFailed
from cluster.harness.layout import Layout, Node
from cluster.harness.namespaces import cable

API_SERVER_GRACE_S = 5.0  # watches keep it from ending; an outage is not polite anyway
BURST_BYTES = 64 * 1024  # one segment as a virtual cable carries it; less would lose them all
QUEUE_LATENCY_MS = 400  # what waits longer than this on a slow cable is dropped, as a switch does


class Faults:
    """Faults of the harness's own two-node cluster."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def stop_api_server(self) -> None:
        """Nobody can read or change the cluster's state; pods go on.

        The controllers end with it, as leaders that cannot renew their lease do. Ours hold none:
        going on, they would find every node silent, and say so before the nodes can speak.
        """
        controlplane.api_server(self._layout).stop(grace_s=API_SERVER_GRACE_S)
        controlplane.controllers(self._layout).stop(grace_s=API_SERVER_GRACE_S)

    def start_api_server(self) -> None:
        """Starts it again and waits until it is ready. Raises LimitReached."""
        server = controlplane.api_server(self._layout)
        if not server.running():
            server.start()
        controlplane.await_ready(self._layout)
        controllers = controlplane.controllers(self._layout)
        if not controllers.running():
            controllers.start()

    @contextmanager
    def api_server_outage(self) -> Iterator[None]:
        self.stop_api_server()
        try:
            yield
        finally:
            self.start_api_server()

    @contextmanager
    def partition(self) -> Iterator[None]:
        """Nothing passes between node1 and the rest, API server included; its pods go on."""
        node = self._layout.nodes[1]
        with (
            _rule(node, "PREROUTING", "-i", "eth0", "-j", "DROP"),
            _rule(node, "POSTROUTING", "-o", "eth0", "-j", "DROP"),
        ):
            yield

    @contextmanager
    def cut(self, source: str, destination: str) -> Iterator[None]:
        """No packet passes from one pod address to the other; the way back stays open."""
        rule = ("FORWARD", "-s", source, "-d", destination, "-j", "DROP")
        first, second = self._layout.nodes
        with _rule(first, *rule), _rule(second, *rule):
            yield

    @contextmanager
    def slow_cable(self, rate_mbit: float) -> Iterator[None]:
        """The cable between the nodes carries `rate_mbit` megabits a second, both ways."""
        first, second = self._layout.nodes
        with _shaped(first, cable(second), rate_mbit), _shaped(second, "eth0", rate_mbit):
            yield


@contextmanager
def _rule(node: Node, chain: str, *rule: str) -> Iterator[None]:
    """A rule at the head of a chain of the mangle table, which sees every packet."""
    command = (*node.inside, "iptables", "--wait", "--table", "mangle")
    run((*command, "--insert", chain, *rule))
    try:
        yield
    finally:
        run((*command, "--delete", chain, *rule))


@contextmanager
def _shaped(node: Node, device: str, rate_mbit: float) -> Iterator[None]:
    command = (*node.inside, "tc", "qdisc")
    shape = ("rate", f"{rate_mbit}mbit", "burst", f"{BURST_BYTES}b")
    limits = (*shape, "latency", f"{QUEUE_LATENCY_MS}ms")
    run((*command, "add", "dev", device, "root", "tbf", *limits))
    try:
        yield
    finally:
        with suppress(CommandFailed):  # the device may have gone with its cluster
            run((*command, "del", "dev", device, "root"))
