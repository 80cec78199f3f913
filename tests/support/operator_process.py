"""The operator as a process, against an API server that is given. Its log is a file."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

START_LIMIT_S = 60.0
STOP_LIMIT_S = 20.0

IMAGES = ("--router-image", "router:1", "--worker-image", "worker:1")


class OperatorProcess:
    """`name` is what it would be called as a pod, and leads as."""

    def __init__(self, folder: Path, kubeconfig: Path, name: str, *flags: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.name = name
        self._log = folder / f"{name}-{self.port}.log"
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "KUBECONFIG": str(kubeconfig),
            "POD_NAME": name,
        }
        argv = [sys.executable, "-m", "baton_operator", *IMAGES, *flags]
        argv += ["--metrics-host", "127.0.0.1", "--metrics-port", str(self.port)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(argv, env=environ, stdout=log, stderr=log)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(one) for one in self._log.read_text().splitlines() if one[:1] == "{"]

    @property
    def leads(self) -> bool:
        return self.metric('leader_election_master_status{name="modelservice"}') == 1.0

    @property
    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            assert self._process.poll() is None, self._log.read_text()[-2_000:]
            return False

    def metric(self, series: str) -> float:
        """Its value; 0 where there is no such series."""
        lines = self.page().splitlines()
        return next((float(one.split()[-1]) for one in lines if one.startswith(series + " ")), 0.0)

    def page(self) -> str:
        """All metrics; nothing from a process that is not there."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as page:
                text: str = page.read().decode()
        except OSError:
            return ""
        return text

    def terminate(self) -> int:
        """As the kubelet does it; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_LIMIT_S)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(STOP_LIMIT_S)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)
