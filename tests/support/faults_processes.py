"""Router, prefill and decode as processes that a fault can befall: killed, frozen, started again.

Each keeps its addresses through its starts, as a container does in its pod. Knows flags and probes;
knows no fault's meaning and no metric.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from support.stack import free_port

READY_LIMIT_S = 120.0  # a process that loads torch takes a second, a minute on a crowded machine
STOP_LIMIT_S = 40.0
POLL_S = 0.05


class BatonProcess:
    """One role. Started by `running`; `flags` besides its ports."""

    def __init__(
        self,
        role: str,
        folder: Path,
        *flags: str,
        host: str = "127.0.0.1",
        metrics_port: int | None = None,
    ) -> None:
        self.role = role
        self.address = f"{host}:{free_port()}"
        self.metrics_address = f"{host}:{metrics_port or free_port()}"
        ports = [one.rpartition(":")[2] for one in (self.address, self.metrics_address)]
        self._argv = [
            *(sys.executable, "-m", f"baton.{role}", *flags),
            *("--host", host, "--port", ports[0], "--metrics-port", ports[1]),
        ]
        self._log = folder / f"{role}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def await_ready(self) -> None:
        deadline_s = time.monotonic() + READY_LIMIT_S
        while not self._is_ready():
            assert self._alive.poll() is None, f"{self.role} ended:\n{self.log}"
            assert time.monotonic() < deadline_s, f"{self.role} is not ready:\n{self.log}"
            time.sleep(POLL_S)

    def kill(self) -> None:
        """As the kernel does it to what takes too much memory: no farewell."""
        self._alive.kill()
        self._alive.wait(STOP_LIMIT_S)

    def freeze(self) -> None:
        self._alive.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._alive.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """As the kubelet does it; whatever state it is in, it is gone afterwards."""
        if self._process is None or self._process.poll() is not None:
            return
        self.thaw()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that it has taken: its clock by number, as clock_getcpuclockid(3) makes
        it, which Python does not offer for processes."""
        return time.clock_gettime((~self._alive.pid << 3) | 2)

    @property
    def log(self) -> str:
        """The end of what it has said."""
        return self._log.read_text()[-4_000:]

    @property
    def _alive(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, f"{self.role} was never started"
        return self._process

    def _is_ready(self) -> bool:
        url = f"http://{self.metrics_address}/ready"
        try:
            return httpx.get(url, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def running(*processes: BatonProcess) -> Iterator[None]:
    """All of them, started at once, ready inside; none of them is left afterwards."""
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.await_ready()
        yield
    finally:
        for process in processes:
            process.stop()
