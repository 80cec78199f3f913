"""The Debian packages that a node is made of: finds the programs, installs what is missing.

Knows no cluster. Where there is no apt-get, the programs must be there already.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster.harness.commands import run
from cluster.harness.errors import ClusterUnavailable, CommandFailed

# Program -> the Debian package that has it.
PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "tc": "iproute2",
    "nsenter": "util-linux",
    "busybox": "busybox-static",
    "gcc": "gcc",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
}
CNI_PACKAGE = "containernetworking-plugins"
CNI_PLUGINS = ("ptp", "host-local", "portmap", "loopback")
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))

# Package -> its programs, for what tests run beside the cluster: unpacked, not installed.
TOOLS = {
    "prometheus": ("usr/bin/prometheus", "usr/bin/promtool"),
    "nginx": ("usr/sbin/nginx",),
}

INSTALL_LIMIT_S = 900.0  # a minute here; a slow mirror may take many
SERVICE_POLICY = Path("/usr/sbin/policy-rc.d")  # Debian's: may an installed service start?


def cni_folder() -> Path | None:
    """The folder that has every plugin a node needs."""
    for folder in CNI_FOLDERS:
        if all((folder / plugin).exists() for plugin in CNI_PLUGINS):
            return folder
    return None


def missing() -> list[str]:
    """Packages whose programs are not here."""
    names = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if cni_folder() is None:
        names.add(CNI_PACKAGE)
    return sorted(names)


def ensure(say: Callable[[str], None]) -> None:
    """Installs what is missing; starts no service. Raises ClusterUnavailable without apt-get."""
    names = missing()
    if not names:
        return
    if shutil.which("apt-get") is None:
        raise ClusterUnavailable(f"missing here, and no apt-get to install it: {', '.join(names)}")
    say(f"installing Debian packages: {' '.join(names)}")
    environment = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    with _no_service_starts():
        run(("apt-get", "update", "-q"), limit_s=INSTALL_LIMIT_S, env=environment)
        install = ("apt-get", "install", "-y", "-q", "--no-install-recommends")
        run((*install, *names), limit_s=INSTALL_LIMIT_S, env=environment)


def tool_folder(cache: Path, package: str) -> Path:
    """Where the programs of one of TOOLS lie once they were fetched."""
    return cache / package


def ensure_tools(
    cache: Path, say: Callable[[str], None], packages: Sequence[str] = tuple(TOOLS)
) -> list[Path]:
    """Folders with the programs of `packages` (of TOOLS), fetched from Debian where they are not
    yet.

    Empty without apt-get: whoever needs one must look for it, and skip. Raises CommandFailed.
    """
    wanted = [package for package in packages if not _has_tools(cache, package)]
    if wanted and shutil.which("apt-get") is None:
        say(f"no apt-get to fetch {' '.join(wanted)}: tests that need them are skipped")
    elif wanted:
        say(f"fetching Debian packages: {' '.join(wanted)}")
        for package in wanted:
            _fetch_tools(cache, package)
    return [tool_folder(cache, package) for package in packages if _has_tools(cache, package)]


def _has_tools(cache: Path, package: str) -> bool:
    folder = tool_folder(cache, package)
    return all((folder / Path(program).name).exists() for program in TOOLS[package])


def _fetch_tools(cache: Path, package: str) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetching-") as fetching:
        _download(package, Path(fetching))
        [archive] = Path(fetching).glob("*.deb")
        run(("dpkg", "-x", str(archive), f"{fetching}/root"), limit_s=INSTALL_LIMIT_S)
        folder = tool_folder(cache, package)
        folder.mkdir(exist_ok=True)
        for program in TOOLS[package]:
            os.replace(Path(fetching) / "root" / program, folder / Path(program).name)


def _download(package: str, folder: Path) -> None:
    """By the lists that are here; only where these are missing or old, with new ones, which takes
    an administrator."""
    download = ("apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", package)
    try:
        run(download, limit_s=INSTALL_LIMIT_S, cwd=folder)
    except CommandFailed:
        run(("apt-get", "update", "-q"), limit_s=INSTALL_LIMIT_S)
        run(download, limit_s=INSTALL_LIMIT_S, cwd=folder)


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """While it lasts, a package that is installed starts no service, as containerd's would."""
    if SERVICE_POLICY.exists():
        yield
        return
    SERVICE_POLICY.write_text("#!/bin/sh\nexit 101\n")  # 101: forbidden by policy
    SERVICE_POLICY.chmod(0o755)
    try:
        yield
    finally:
        SERVICE_POLICY.unlink()
