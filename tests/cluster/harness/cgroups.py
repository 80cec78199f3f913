"""Control groups of a node: make them, and end and remove whatever is in them. Knows no kubelet."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cluster.harness.commands import until

EMPTY_LIMIT_S = 20.0  # killed processes with gigabytes of memory take seconds to go
MOUNTS = Path("/proc/mounts")


def hierarchies() -> list[Path]:
    """Mount points of every hierarchy: several with version 1, one with version 2."""
    mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
    return [Path(mount[1]) for mount in mounts if mount[2] in ("cgroup", "cgroup2")]


def make(name: str) -> None:
    """The group in every hierarchy. In version 1 a new cpuset has no processors until told."""
    for hierarchy in hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / file).exists() and not (group / file).read_text().strip():
                (group / file).write_text((hierarchy / file).read_text())


def kill_all(name: str) -> None:
    """Ends every process in the group and below. Raises LimitReached."""

    def empty() -> bool:
        members = set(_members(name))
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not members

    until(empty, limit_s=EMPTY_LIMIT_S, what=f"no process left in cgroup {name}")


def remove(name: str) -> None:
    """Removes the group from every hierarchy; nothing may run in it. Raises LimitReached."""
    for hierarchy in hierarchies():
        group = hierarchy / name

        def gone(group: Path = group) -> bool:
            for folder, _, _ in os.walk(group, topdown=False):
                with suppress(OSError):  # busy until the kernel has seen the last process off
                    os.rmdir(folder)
            return not group.exists()

        until(gone, limit_s=EMPTY_LIMIT_S, what=f"{group} is removed")


def _members(name: str) -> Iterator[int]:
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy / name):
            with suppress(OSError):  # the group may go while we look
                yield from map(int, (Path(folder) / "cgroup.procs").read_text().split())
