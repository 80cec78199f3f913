"""A node's containerd: its configuration, its life, and the removal of all that ran in it.

Knows no Kubernetes beyond the name of the namespace it uses. Images outlive the cluster in
`Node.content`; containers do not, and what a killed run left of them is purged before a start.
"""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from cluster.harness import cgroups
from cluster.harness.commands import run, succeeds, until
from cluster.harness.daemons import Daemon, end
from cluster.harness.errors import CommandFailed
from cluster.harness.layout import Layout, Node

PAUSE_IMAGE = "localhost/pause:1"
ANSWER_LIMIT_S = 30.0  # a second here; reading a kept content store takes more on a cold disk
SHIM_GRACE_S = 1.0  # a shim whose task was killed has nothing to finish
CNI_RESULTS = Path("/var/lib/cni/results")  # libcni's, fixed; for each pod and network a file
UNUSED_PLUGINS = (
    "io.containerd.internal.v1.opt",  # would make a folder in /opt
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
)


def daemon(layout: Layout, node: Node) -> Daemon:
    argv = (*node.inside, "containerd", "--config", str(_config_file(node)), "--log-level", "warn")
    return Daemon(f"containerd-{node.name}", argv, layout.run)


def ctr(node: Node, *arguments: str) -> tuple[str, ...]:
    """Command line that asks this node's containerd, in the namespace kubelet uses."""
    return ("ctr", "--address", str(node.socket), "--namespace", "k8s.io", *arguments)


def start(layout: Layout, node: Node, cni_plugins: Path) -> None:
    """Starts it, with no container in it. Raises LimitReached."""
    _write_configuration(node, cni_plugins)
    containerd = daemon(layout, node)
    containerd.start()
    await_answer(node)
    if run(ctr(node, "containers", "list", "--quiet")).split():
        # A killed run left these; only a restart makes the CRI plugin forget them.
        purge(node)
        containerd.stop()
        _forget_sandboxes(node)
        containerd.start()
        await_answer(node)


def await_answer(node: Node) -> None:
    def answers() -> bool:
        return node.socket.exists() and succeeds(ctr(node, "version"), limit_s=5)

    until(answers, limit_s=ANSWER_LIMIT_S, what=f"{node.name}'s containerd answers")


def stop(layout: Layout, node: Node) -> None:
    """Ends every container, its shim and containerd. The kubelet must be gone already."""
    outside = _files_outside(node)
    cgroups.kill_all(node.cgroup)
    containerd = daemon(layout, node)
    if containerd.running():
        purge(node)
    _end_shims(node)
    containerd.stop()
    _forget_sandboxes(node)
    for file in outside:
        file.unlink(missing_ok=True)


def purge(node: Node) -> None:
    """Removes every task and container, with their snapshots; their processes must be gone."""
    # Tasks first: their shims outlive containerd, and hold their containers.
    for kind, removal in (("tasks", ("delete", "--force")), ("containers", ("delete",))):
        names = run(ctr(node, kind, "list", "--quiet")).split()
        if names:
            with suppress(CommandFailed):  # some may have gone by themselves since the listing
                run(ctr(node, kind, *removal, *names))


def _forget_sandboxes(node: Node) -> None:
    for kind in ("sandboxes", "containers"):
        shutil.rmtree(node.content / "io.containerd.grpc.v1.cri" / kind, ignore_errors=True)


def _end_shims(node: Node) -> None:
    """A shim names its containerd's socket on its command line: only this node's are ended."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            argv = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if Path(argv[0]).name.startswith("containerd-shim") and str(node.socket) in argv:
            end(int(process.name), grace_s=SHIM_GRACE_S)


def _files_outside(node: Node) -> list[Path]:
    """What its containers have outside our folders: the shims' sockets, notes of pods' networks."""
    found: list[Path] = []
    for bundle in node.folder.glob("state/io.containerd.runtime.v2.task/*/*"):
        found.extend(CNI_RESULTS.glob(f"*-{bundle.name}-*"))
        if (bundle / "address").exists():
            found.append(Path((bundle / "address").read_text().removeprefix("unix://")))
    return found


def _config_file(node: Node) -> Path:
    return node.folder / "containerd.toml"


def _write_configuration(node: Node, cni_plugins: Path) -> None:
    cni = node.folder / "cni"
    cni.mkdir(parents=True, exist_ok=True)
    (cni / "10-pods.conflist").write_text(json.dumps(_cni_configuration(node)))
    _config_file(node).write_text(_configuration(node, cni_plugins, cni))
    os.makedirs(node.content, exist_ok=True)


def _configuration(node: Node, cni_plugins: Path, cni: Path) -> str:
    # oom_score 0 and restrict_oom_score_adj: lowering a score needs a capability not all have.
    return f"""version = 2
root = "{node.content}"
state = "{node.folder}/state"
oom_score = 0
disabled_plugins = {json.dumps(UNUSED_PLUGINS)}
[grpc]
  address = "{node.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_plugins}"
    conf_dir = "{cni}"
"""


def _cni_configuration(node: Node) -> dict[str, object]:
    """Every pod on a cable of its own, all of it routed.

    No bridge: between two pods of one node it would carry a Service's answers past the rules that
    give them back the Service's address.
    """
    ipam = {
        "type": "host-local",
        "dataDir": str(node.folder / "ipam"),
        "ranges": [[{"subnet": node.pod_cidr}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    cable = {"type": "ptp", "ipMasq": False, "ipam": ipam}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": node.netns, "plugins": [cable, ports]}
