"""`make images`: the images of the local test cluster, as archives that containerd imports.

Knows the order of things; an image whose inputs did not change is left alone.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from cluster.images import bases, registry, weights
from cluster.images.commands import (
    BUILDAH,
    ImageBroken,
    ImagesUnavailable,
    require_room,
    require_tools,
    run,
)
from cluster.images.inputs import ROLES, copy_inputs, fingerprint
from support.smollm2 import REFERENCE

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = Path("deploy/docker/Dockerfile")

UNAVAILABLE = 3
"""Exit status where this machine cannot make images; 1 is for a build that failed."""


def archive_folder() -> Path:
    """Where the archives lie, for whoever loads them into a cluster."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "baton-cluster" / "images"


def main() -> int:
    folder = archive_folder()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        require_tools()
        with _alone(folder):
            if not (folder / "baton-worker.tar").exists():
                require_room(folder)
            for role in ROLES:
                _ensure_role(folder, role)
            _ensure_weights(folder)
    except ImageBroken as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    except ImagesUnavailable as error:
        print(f"images: {error}", file=sys.stderr)
        return UNAVAILABLE
    return 0


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One build at a time: a second one waits, and then finds its work done."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _ensure_role(folder: Path, role: str) -> None:
    """Builds from a copy of the inputs: others may go on writing into the working tree."""
    name = f"localhost/baton-{role}:dev"
    archive = folder / f"baton-{role}.tar"
    with tempfile.TemporaryDirectory() as copied:
        context = Path(copied)
        copy_inputs(ROOT, role, context)
        recipe = (bases.RUNTIME.reference, bases.BUILD.reference)
        key = fingerprint(context, *recipe)
        if _is_current(archive, key):
            _report(archive, name, "is current")
            return
        started = time.monotonic()
        _build(role, name, context)
    built = time.monotonic()
    # Three times as fast as gzip, to write and to import, and smaller.
    compression = ["--compression-format", "zstd", "--compression-level", "1"]
    made = archive.with_suffix(".part")
    made.unlink(missing_ok=True)  # of a build that was killed; buildah would add to it
    run([*BUILDAH, "push", "--quiet", *compression, name, f"oci-archive:{made}:{name}"])
    os.replace(made, archive)  # whoever reads the old one just now goes on with it
    _mark(archive, key)
    took = f"{built - started:.0f} s to build, {time.monotonic() - built:.0f} s to write"
    _report(archive, name, took)


def _build(role: str, name: str, context: Path) -> None:
    arguments = {
        "BASE_IMAGE": bases.ensure(bases.RUNTIME),
        "BUILD_IMAGE": bases.ensure(bases.BUILD),
    }
    options = [f"--build-arg={key}={value}" for key, value in arguments.items()]
    with tempfile.TemporaryDirectory() as settings:
        secret = registry.write_settings(Path(settings), os.environ, Path.home())
        options += registry.build_options(Path(settings), secret, _uv_cache())
        options += ["--file", str(context / DOCKERFILE), "--target", role, "--tag", name]
        # Layers are kept, so that dependencies are installed again only when their lock changes.
        build = ["bud", "--layers", "--force-rm", "--isolation", "chroot", "--network", "host"]
        try:
            run([*BUILDAH, *build, *options, str(context)])
        except ImagesUnavailable as error:
            raise ImageBroken(f"{name}: {error}") from error


def _uv_cache() -> Path:
    """The one that `make setup` fills: torch is there already."""
    uv = ROOT / ".boot" / "bin" / "uv"
    said = subprocess.run([uv, "cache", "dir"], check=True, capture_output=True, text=True)
    return Path(said.stdout.strip())


def _ensure_weights(folder: Path) -> None:
    archive = folder / "baton-weights.tar"
    key = sha256(repr((weights.NAME, REFERENCE, weights.APPLETS)).encode()).hexdigest()
    if _is_current(archive, key):
        _report(archive, weights.NAME, "is current")
        return
    started = time.monotonic()
    weights.write_weights(archive)
    _mark(archive, key)
    _report(archive, weights.NAME, f"{time.monotonic() - started:.0f} s to write")


def _is_current(archive: Path, key: str) -> bool:
    mark = _mark_of(archive)
    return archive.exists() and mark.exists() and mark.read_text() == key


def _mark(archive: Path, key: str) -> None:
    _mark_of(archive).write_text(key)


def _mark_of(archive: Path) -> Path:
    return archive.with_suffix(".inputs")


def _report(archive: Path, name: str, what: str) -> None:
    print(f"{name}: {archive} {archive.stat().st_size / 1e6:.0f} MB, {what}")


if __name__ == "__main__":
    sys.exit(main())
