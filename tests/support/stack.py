"""`baton serve` as a user runs it: real processes on loopback, found and ended by their ids."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

READY_LIMIT_S = 180.0
STOP_LIMIT_S = 40.0
POLL_S = 0.05


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Stack:
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def children(self) -> dict[str, int]:
        """Process ids of the living children by module name, such as "prefill"."""
        found: dict[str, int] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            names = [word.decode() for word in words if word.startswith(b"baton.")]
            if parent == self.process.pid and names:
                found[names[0].removeprefix("baton.")] = int(entry.name)
        return found

    def worker_addresses(self) -> list[str]:
        """gRPC addresses of the living workers."""
        found = []
        for role, pid in self.children().items():
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if role != "router":
                found.append(f"127.0.0.1:{words[words.index('--port') + 1]}")
        return found

    def text(self) -> str:
        return self.log.read_text()

    def wait_ready(self) -> None:
        deadline_s = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < deadline_s:
            assert self.process.poll() is None, f"baton serve ended:\n{self.text()}"
            if self.banner():
                return
            time.sleep(POLL_S)
        raise AssertionError(f"not ready:\n{self.text()}")

    def banner(self) -> bool:
        return bool(re.search(r"^Baton serves ", self.text(), re.MULTILINE))

    def wait_for(self, pattern: str, limit_s: float = 60.0) -> None:
        """Until the log says `pattern`."""
        deadline_s = time.monotonic() + limit_s
        while not re.search(pattern, self.text()):
            assert time.monotonic() < deadline_s, f"never said {pattern!r}:\n{self.text()}"
            time.sleep(POLL_S)

    def metric(self, name: str) -> float:
        """The sum of the router's samples of a metric."""
        text = httpx.get(f"{self.url}/metrics").text
        pattern = rf"^{re.escape(name)}(?:\{{[^}}]*\}})? ([0-9.e+-]+)$"
        return sum(float(value) for value in re.findall(pattern, text, re.MULTILINE))

    def stop(self) -> int:
        """Ctrl-C, as a terminal sends it to the foreground process."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_LIMIT_S)


@contextmanager
def serve(log: Path, *arguments: str) -> Iterator[Stack]:
    """A ready stack; whatever the test does, nothing of it is left afterwards."""
    port = free_port()
    cache = Path(__file__).parents[2] / ".cache" / "models"
    environ = {**os.environ, "BATON_CACHE_DIR": str(cache), "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "baton.cli", "serve", "--port", str(port), *arguments],
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environ,
            start_new_session=True,
        )
    stack = Stack(process, f"http://127.0.0.1:{port}", log)
    try:
        stack.wait_ready()
        yield stack
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_LIMIT_S)
