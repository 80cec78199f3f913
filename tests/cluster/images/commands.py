"""Runs the programs that make images, and says what to install where one is missing.

Knows their names and limits, not what they are used for.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

FREE_BYTES_MIN = 45_000_000_000
"""The worker's dependencies are 6 GB, and lie in a cache, a build, a store, an archive and two
nodes; less has not been tried."""
DEBIAN_PACKAGES = {"buildah": "buildah", "mmdebstrap": "mmdebstrap", "busybox": "busybox-static"}
BUILDAH = ("buildah", "--storage-driver", "overlay")
LIMIT_S = 3_000  # the worker's dependencies are some 5 GB: minutes; an hour is a hang
NICENESS = "10"  # the machine has other work


class ImagesUnavailable(Exception):
    """Images cannot be made here; the message says what to do."""


class ImageBroken(Exception):
    """This machine can make images, and ours could not be made: the message says which program
    said no."""


def missing_packages(path: str | None = None) -> list[str]:
    """Debian packages to install first. `path` is searched as PATH is (None: PATH itself)."""
    return [
        package
        for program, package in DEBIAN_PACKAGES.items()
        if shutil.which(program, path=path) is None
    ]


def require_tools() -> None:
    """Raises ImagesUnavailable where this machine lacks a program or a right."""
    if missing := missing_packages():
        raise ImagesUnavailable(
            "images are built without Docker, by programs that are not here; on Debian 12 say"
            f" `apt-get install --no-install-recommends {' '.join(missing)}`"
        )
    if os.geteuid() != 0:
        raise ImagesUnavailable("mmdebstrap and buildah need root here; run this as root")


def require_room(folder: Path) -> None:
    """Raises ImagesUnavailable where a build from nothing would fill the disk."""
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES_MIN:
        raise ImagesUnavailable(
            f"{free / 1e9:.0f} GB are free for images, {FREE_BYTES_MIN / 1e9:.0f} are needed"
        )


def run(command: Sequence[str], *, environ: Mapping[str, str] | None = None) -> None:
    """To its end, its words to our stderr. Raises ImagesUnavailable when it fails."""
    try:
        subprocess.run(
            ["nice", "-n", NICENESS, *command],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            env=environ,
            timeout=LIMIT_S,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise ImagesUnavailable(f"{Path(command[0]).name} failed: {error!s:.500}") from error


def image_exists(name: str) -> bool:
    """Whether buildah's store has an image of this name."""
    found = subprocess.run(
        [*BUILDAH, "inspect", "--type", "image", name],
        check=False,
        capture_output=True,
        timeout=LIMIT_S,
    )
    return found.returncode == 0
