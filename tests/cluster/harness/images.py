"""Puts images into the nodes' containerd, and makes the two that every cluster has.

Knows how to load an archive, not how Baton's own are built. What was loaded is noted beside
containerd's content, which outlives the cluster: an unchanged image is not imported twice.
"""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster.harness import archives
from cluster.harness.archives import Program
from cluster.harness.commands import run, succeeds
from cluster.harness.containerd import PAUSE_IMAGE, ctr
from cluster.harness.layout import Node

BUSYBOX_IMAGE = "localhost/busybox:1"
IMPORT_LIMIT_S = 900.0  # 5 GB took 45 s on an idle machine
IMPORT_TRIES = 3
"""The import takes a name from the old image, whose layers are then collected in the background:
one that the new image shares may go between being found there and being built upon. It is unpacked
the next time."""

PAUSE_SOURCE = Path(__file__).with_name("pause.c")


def load(nodes: Iterable[Node], archive: Path, say: Callable[[str], None]) -> None:
    """Imports an OCI or docker archive into each node that has not got just this one."""
    names, digest = archives.identity(archive)
    wanting = [node for node in nodes if not _has(node, names, digest)]
    if not wanting:
        return
    started = time.monotonic()
    # At once: unpacking keeps one processor busy for each node.
    with ThreadPoolExecutor(max_workers=len(wanting)) as pool:
        list(pool.map(lambda node: _import(node, archive, names, digest), wanting))
    where = ", ".join(node.name for node in wanting)
    say(f"imported {' '.join(names)} into {where}: {time.monotonic() - started:.1f} s")


def _import(node: Node, archive: Path, names: list[str], digest: str) -> None:
    _import_archive(node, archive)
    for name in names:
        note = _note(node, name)
        note.parent.mkdir(exist_ok=True)
        note.write_text(digest)
    _drop_replaced(node)


def _import_archive(node: Node, archive: Path) -> None:
    argv = ctr(node, "images", "import", str(archive))
    for _ in range(IMPORT_TRIES - 1):
        if succeeds(argv, limit_s=IMPORT_LIMIT_S):
            return
    run(argv, limit_s=IMPORT_LIMIT_S)


def _drop_replaced(node: Node) -> None:
    """Lets go of images whose name went to a newer one: gigabytes each, for a worker's.

    The CRI plugin names each image by its digest too, and that name alone would keep it.
    """
    lines = run(ctr(node, "images", "list")).splitlines()[1:]
    digests = {fields[0]: fields[2] for line in lines if len(fields := line.split()) > 2}
    named = {digest for name, digest in digests.items() if not name.startswith("sha256:")}
    replaced = [name for name, digest in digests.items() if digest not in named]
    if replaced:
        # Collected at once: later, layers that the next import finds there would go from under it.
        run(ctr(node, "images", "remove", "--sync", *replaced), limit_s=IMPORT_LIMIT_S)


def ensure_own(cache: Path, nodes: Iterable[Node], say: Callable[[str], None]) -> None:
    """Makes and loads the sandbox's image, and a busybox for tests to run."""
    nodes = tuple(nodes)
    for archive in (_pause(cache), _busybox(cache)):
        load(nodes, archive, say)


def _has(node: Node, names: list[str], digest: str) -> bool:
    """Noted with this digest, and still there: somebody may have removed it by hand."""
    present = run(ctr(node, "images", "list", "--quiet")).split()
    notes = [_note(node, name) for name in names]
    noted = all(note.exists() and note.read_text() == digest for note in notes)
    return bool(names) and noted and all(name in present for name in names)


def _note(node: Node, name: str) -> Path:
    return node.content / "baton-loaded" / hashlib.sha256(name.encode()).hexdigest()[:16]


def _pause(cache: Path) -> Path:
    path = cache / "pause.tar"
    if not path.exists() or path.stat().st_mtime < PAUSE_SOURCE.stat().st_mtime:
        with tempfile.TemporaryDirectory() as building:
            binary = Path(building) / "pause"
            run(("gcc", "-Os", "-static", "-s", "-o", str(binary), str(PAUSE_SOURCE)))
            files = {"pause": Program(binary.read_bytes())}
        archives.write(path, PAUSE_IMAGE, files, ["/pause"])
    return path


def _busybox(cache: Path) -> Path:
    path = cache / "busybox.tar"
    if not path.exists():
        binary = shutil.which("busybox") or "busybox"
        applets = run((binary, "--list")).split()
        files = {f"bin/{applet}": Program(link="busybox") for applet in applets}
        files["bin/busybox"] = Program(Path(binary).read_bytes())
        archives.write(path, BUSYBOX_IMAGE, files, ["/bin/sh"])
    return path
