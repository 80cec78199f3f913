"""Builds the cluster's programs from pinned Go modules into a cache. Knows nothing of running them.

The cache folder's name is a hash of every go.mod and go.sum, so other pins make another folder. A
program appears in it by a rename: one that is there is whole.
"""

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster.harness.commands import run
from cluster.harness.errors import ClusterUnavailable

MODULES = Path(__file__).resolve().parents[1] / "go"
BUILD_LIMIT_S = 1800.0  # Kubernetes takes 330 s on two idle cores; leaves room for busy ones


@dataclass(frozen=True, slots=True)
class GoModule:
    """A folder of pins, and the programs it gives: name wanted -> package."""

    folder: str
    programs: dict[str, str]


ETCD = GoModule("etcd", {"etcd": "go.etcd.io/etcd/server/v3"})
KUBERNETES = GoModule(
    "kubernetes",
    {
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
            "kubelet",
            "kubectl",
        )
    },
)
COREDNS = GoModule("coredns", {"coredns": "github.com/coredns/coredns"})
KWOK = GoModule("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"})  # only the scale benchmark's

CLUSTER = (ETCD, KUBERNETES, COREDNS)
PINNED = (*CLUSTER, KWOK)


def cache_folder(cache: Path) -> Path:
    """Where the programs of the committed pins lie, built or not."""
    pins = hashlib.sha256()
    for module in sorted(PINNED, key=lambda module: module.folder):
        for file in ("go.mod", "go.sum"):
            pins.update((MODULES / module.folder / file).read_bytes())
    return cache / f"bin-{pins.hexdigest()[:12]}"


def ensure(folder: Path, modules: tuple[GoModule, ...], say: Callable[[str], None]) -> None:
    """Builds into `folder` what is missing of `modules`. Raises ClusterUnavailable without Go."""
    missing = [module for module in modules if _missing(folder, module)]
    if not missing:
        return
    if shutil.which("go") is None:
        raise ClusterUnavailable("no Go toolchain to build Kubernetes with, and no KUBECONFIG")
    folder.mkdir(parents=True, exist_ok=True)
    for module in missing:
        started = time.monotonic()
        say(f"building {', '.join(_missing(folder, module))} (once; minutes on two cores)")
        _build(folder, module)
        say(f"built {module.folder} in {time.monotonic() - started:.0f} s")


def _missing(folder: Path, module: GoModule) -> list[str]:
    return [name for name in module.programs if not (folder / name).exists()]


def _build(folder: Path, module: GoModule) -> None:
    source = MODULES / module.folder
    packages = {name: module.programs[name] for name in _missing(folder, module)}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as building:
        argv = ("nice", "-n", "10", "go", "build", "-trimpath", "-ldflags", _ldflags(source))
        run(
            (*argv, "-o", f"{building}/", *packages.values()),
            limit_s=BUILD_LIMIT_S,
            cwd=source,
            env={"CGO_ENABLED": "0"},
        )
        for name, package in packages.items():
            os.replace(Path(building) / _go_name(package), folder / name)


def _go_name(package: str) -> str:
    """What `go build` calls a package's program: a last part such as "v3" does not count."""
    parts = package.split("/")
    return parts[-2] if re.fullmatch(r"v\d+", parts[-1]) else parts[-1]


def _ldflags(source: Path) -> str:
    """Stripped; and Kubernetes learns its version, else it calls itself v0.0.0."""
    flags = "-s -w"
    pinned = re.search(r"k8s\.io/kubernetes (v(\d+)\.(\d+)\.\d+)", (source / "go.mod").read_text())
    if pinned is None:
        return flags
    version, major, minor = pinned.groups()
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    stamps = (f"-X k8s.io/component-base/version.{key}={value}" for key, value in values.items())
    return " ".join((flags, *stamps))
