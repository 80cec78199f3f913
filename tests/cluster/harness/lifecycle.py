"""Brings the two-node cluster up and takes it down. The only place that knows the order of things.

Going down works from whatever a killed run left: processes by their pid files, containers by their
cgroup, shims by their socket, mounts by their folder. Coming up always goes down first.
"""

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.harness import (
    binaries,
    cgroups,
    containerd,
    controlplane,
    dns,
    images,
    kubelet,
    namespaces,
    packages,
)
from cluster.harness.commands import run, succeeds, until
from cluster.harness.daemons import Daemon
from cluster.harness.errors import (
    ClusterUnavailable,
    CommandFailed,
    HarnessError,
    LimitReached,
)
from cluster.harness.layout import Layout
from cluster.harness.pki import Authority

NODES_LIMIT_S = 90.0  # five seconds on idle cores
LOG_SHOWN_LINES = 15  # of each program's log when a start fails
MOUNTS = Path("/proc/self/mountinfo")

Say = Callable[[str], None]


def default_layout() -> Layout:
    """Of this user: below the home folder's cache."""
    cache = Path.home() / ".cache" / "baton-cluster"
    return Layout(cache=cache, binaries=binaries.cache_folder(cache))


def running(layout: Layout) -> bool:
    """Whether the cluster of this layout is up and whole."""
    try:
        return controlplane.answers(layout) and controlplane.nodes_ready(layout)
    except HarnessError:
        return False


def up(layout: Layout, say: Say) -> bool:
    """Leaves a cluster with every node Ready; whether it had to be started.

    Raises ClusterUnavailable, HarnessError.
    """
    _require_machine()
    with _alone(layout):
        _prepare(layout, say)
        if running(layout):
            say("already up")
            return False
        with _phase("clear away", say):
            _clear(layout)
        try:
            _start_or_tell(layout, say)
        except LimitReached as failed:
            # One start in some twenty-five came to its limit, cause not found; all others, the next
            # one too, took ten seconds.
            say(f"once more: {failed}")
            _clear(layout)
            _start_or_tell(layout, say)
        return True


def down(layout: Layout, say: Say) -> None:
    """Leaves nothing of the cluster but the caches; does nothing when there is none."""
    _require_machine()
    with _alone(layout), _phase("down", say):
        _clear(layout)


def wreck(layout: Layout) -> None:
    """Kills every program at once, as a machine's failure does: `up` has to cope with the rest."""
    for daemon in (*_with_api_server(layout), *_after_api_server(layout)):
        daemon.stop(grace_s=0)


def log_ends(layout: Layout) -> str:
    """The last lines of every program's log."""
    ends = []
    for log in sorted(layout.logs.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-LOG_SHOWN_LINES:]
        ends.append("\n".join((f"== {log.name}", *lines)))
    return "\n".join(ends)


def _require_machine() -> None:
    if sys.platform != "linux":
        raise ClusterUnavailable("a cluster of our own needs Linux; set KUBECONFIG to use another")
    if os.geteuid() != 0:
        raise ClusterUnavailable("a cluster of our own needs root; set KUBECONFIG to use another")


def _prepare(layout: Layout, say: Say) -> None:
    try:
        with _phase("packages", say):
            packages.ensure(say)
        with _phase("binaries", say):
            binaries.ensure(layout.binaries, binaries.CLUSTER, say)
    except (CommandFailed, LimitReached) as failed:
        raise ClusterUnavailable(f"what it is made of could not be had: {failed}") from failed


def _start_or_tell(layout: Layout, say: Say) -> None:
    """Raises HarnessError with what every program said last."""
    try:
        _start(layout, say)
    except HarnessError as failed:
        raise type(failed)(f"{failed}\n{log_ends(layout)}") from failed


def _start(layout: Layout, say: Say) -> None:
    nodes = layout.nodes
    plugins = packages.cni_folder()
    if plugins is None:
        raise ClusterUnavailable("the CNI plugins are not where Debian puts them")
    with _phase("network and keys", say):
        namespaces.make(nodes)
        layout.run.mkdir(parents=True, exist_ok=True)
        authority = Authority(layout.pki)
        controlplane.prepare(layout, authority)
        dns.prepare(layout)
        for node in nodes:
            kubelet.prepare(layout, node, authority)
            cgroups.make(node.cgroup)
    with _phase("containerd and images", say):
        # The API server takes longest: it starts while images load.
        controlplane.etcd(layout).start()
        controlplane.api_server(layout).start()
        for node in nodes:
            containerd.start(layout, node, plugins)
        images.ensure_own(layout.cache, nodes, say)
    with _phase("control plane", say):
        controlplane.await_ready(layout)
    with _phase("nodes", say):
        for daemon in _after_api_server(layout):
            daemon.start()
        until(lambda: _usable(layout), limit_s=NODES_LIMIT_S, what="every node is Ready")


def _with_api_server(layout: Layout) -> Iterator[Daemon]:
    yield controlplane.etcd(layout)
    yield controlplane.api_server(layout)
    for node in layout.nodes:
        yield containerd.daemon(layout, node)


def _after_api_server(layout: Layout) -> Iterator[Daemon]:
    yield controlplane.controllers(layout)
    for node in layout.nodes:
        yield kubelet.kubelet(layout, node)
    yield controlplane.scheduler(layout)
    for node in layout.nodes:
        yield kubelet.proxy(layout, node)
    yield dns.coredns(layout)


def _usable(layout: Layout) -> bool:
    """Nodes Ready, and a pod can be made: its namespace's service account is there."""
    account = ("get", "serviceaccount", "default")
    return controlplane.nodes_ready(layout) and succeeds((*controlplane.kubectl(layout), *account))


def _clear(layout: Layout) -> None:
    """The order matters: who restarts goes before what is restarted, who is asked goes last."""
    nodes = layout.nodes
    for node in nodes:
        kubelet.kubelet(layout, node).stop()
    for node in nodes:
        containerd.stop(layout, node)
        kubelet.proxy(layout, node).stop()
    dns.coredns(layout).stop()
    controlplane.scheduler(layout).stop()
    controlplane.controllers(layout).stop()
    controlplane.api_server(layout).stop()  # before etcd: without it, it hangs on
    controlplane.etcd(layout).stop()
    _unmount_below(layout.run)
    namespaces.remove(nodes)
    for node in nodes:
        cgroups.remove(node.cgroup)
        kubelet.unlink_logs(node)
    if layout.run.exists():
        shutil.rmtree(layout.run)


def _unmount_below(folder: Path) -> None:
    """Innermost first. Lazily: who holds one open has been ended, and may not be gone yet."""
    points = [line.split()[4] for line in MOUNTS.read_text().splitlines()]
    for point in reversed(points):
        if Path(point).is_relative_to(folder):
            run(("umount", "--lazy", point))


@contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """One `up` or `down` at a time."""
    layout.cache.mkdir(parents=True, exist_ok=True)
    with (layout.cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as busy:
            raise HarnessError("another cluster-up or cluster-down is under way") from busy
        yield


@contextmanager
def _phase(name: str, say: Say) -> Iterator[None]:
    started = time.monotonic()
    yield
    say(f"{name}: {time.monotonic() - started:.1f} s")
