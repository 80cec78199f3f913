"""Runs an image as a restricted pod would, without Kubernetes: any user, a read-only root, nothing
to write to but /tmp and /cache, no capabilities. With runc, and buildah's store.

Knows the OCI runtime's configuration; knows nothing of Baton.
"""

import json
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.images.commands import BUILDAH

ANY_USER = 12_345  # has no entry in any password file
QUICK_LIMIT_S = 120  # of what takes a second on an idle disk
WRITABLE = ("/tmp", "/cache", "/dev/shm")
NAMESPACES = ("pid", "mount", "ipc", "uts")  # the network is the caller's

Json = dict[str, Any]  # of buildah and runc: their keys, their shapes


@dataclass(frozen=True, slots=True)
class Order:
    """What to run in an image, in place of its own command if `args` are given."""

    image: str
    args: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[Path, str] = field(default_factory=dict)  # here -> there, read-only


@contextmanager
def prepared(order: Order) -> Iterator[list[str]]:
    """The command line that runs it in the foreground: signals to it reach the container's
    process 1, whose exit status it takes over.
    """
    container = _buildah("from", "--pull-never", order.image)
    name = f"baton-smoke-{uuid.uuid4().hex[:8]}"
    try:
        root = _buildah("mount", container)
        image = json.loads(_buildah("inspect", "--type", "image", order.image))["OCIv1"]["config"]
        with tempfile.TemporaryDirectory() as bundle:
            settings = runtime_settings(order, image, root)
            (Path(bundle) / "config.json").write_text(json.dumps(settings), encoding="utf-8")
            try:
                yield ["runc", "run", "--bundle", bundle, name]
            finally:  # gone already unless the caller left early
                subprocess.run(["runc", "delete", "--force", name], capture_output=True, timeout=60)
    finally:
        _buildah("rm", container)


def run(order: Order, *, limit_s: float = QUICK_LIMIT_S) -> subprocess.CompletedProcess[str]:
    """To its end. Raises TimeoutExpired."""
    with prepared(order) as command:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, stdin=subprocess.DEVNULL
        )


def runtime_settings(order: Order, image: Json, root: str) -> Json:
    """`image` is the configuration in an OCI image, `root` its files."""
    own = [*image.get("Entrypoint", []), *image.get("Cmd", [])]
    environ = [f"{name}={value}" for name, value in order.environ.items()]
    process = {
        "user": {"uid": ANY_USER, "gid": ANY_USER},
        "args": [*(order.args or own)],
        "env": [*image.get("Env", []), *environ],
        "cwd": image.get("WorkingDir") or "/",
        "noNewPrivileges": True,
    }
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": root, "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            *(_bind(source, target) for source, target in order.mounts.items()),
            *({"destination": path, "type": "tmpfs", "source": "tmpfs"} for path in WRITABLE),
        ],
        "linux": {"namespaces": [{"type": kind} for kind in NAMESPACES]},
    }


def _bind(source: Path, target: str) -> Json:
    options = ["rbind", "ro"]
    return {"destination": target, "type": "bind", "source": str(source), "options": options}


def _buildah(*arguments: str) -> str:
    done = subprocess.run(
        [*BUILDAH, *arguments], check=True, capture_output=True, text=True, timeout=QUICK_LIMIT_S
    )
    return done.stdout.strip()
