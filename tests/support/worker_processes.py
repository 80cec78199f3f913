"""Fake worker processes on loopback: started, probed, signalled and ended by the test that asks.

Polls over HTTP and files, as everyone outside the process must, with a limit on every wait.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

LIMIT_S = 30.0  # of every wait: a busy machine starts a process in seconds
POLL_S = 0.02
TESTS = Path(__file__).resolve().parents[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], Awaitable[bool]], limit_s: float = LIMIT_S) -> None:
    async with asyncio.timeout(limit_s):
        # Another process has no event to wait for.
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)


class WorkerProcess:
    def __init__(self, process: Process, directory: Path, port: int, metrics_port: int) -> None:
        self.process = process
        self.address = f"127.0.0.1:{port}"
        self._directory = directory
        self._http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{metrics_port}", trust_env=False, timeout=LIMIT_S
        )
        self._errors = b""

    def hold(self, what: str) -> None:
        """From now on: see `fake_worker_process`."""
        (self._directory / what).touch()

    def let_go(self, what: str) -> None:
        (self._directory / what).unlink()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def get(self, path: str) -> httpx.Response:
        return await self._http.get(path)

    async def until_status(self, path: str, status: int) -> httpx.Response:
        found: list[httpx.Response] = []

        async def answered() -> bool:
            assert self.process.returncode is None, await self.log()
            try:
                found.append(await self.get(path))
            except httpx.TransportError:
                return False
            return found[-1].status_code == status

        await until(answered)
        return found[-1]

    async def ended(self, limit_s: float = LIMIT_S) -> int:
        """The exit code, within `limit_s`."""
        async with asyncio.timeout(limit_s):
            _, self._errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode

    async def log(self) -> list[dict[str, Any]]:
        """Its log lines, once it has ended."""
        if not self._errors:
            await self.ended()
        lines = self._errors.decode().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def errors(self) -> str:
        return self._errors.decode()

    async def aclose(self) -> None:
        await self._http.aclose()
        if self.process.returncode is None:
            self.process.kill()
            await self.process.communicate()


def _prepare(directory: Path, hold: Sequence[str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for what in hold:
        (directory / what).touch()


@asynccontextmanager
async def worker_process(
    role: str,
    directory: Path,
    *flags: str,
    ready: bool = True,
    hold: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[WorkerProcess]:
    """A worker that holds `hold` from its start; with `ready`, once it is ready. `environ`: on top
    of ours."""
    _prepare(directory, hold)
    port, metrics_port = free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "support.fake_worker_process", role, str(directory)),
        *("--model", "none", "--model-name", "fake"),
        *("--port", str(port), "--metrics-port", str(metrics_port), *flags),
        env={**os.environ, "PYTHONPATH": str(TESTS), **(environ or {})},
        stdout=PIPE,
        stderr=PIPE,
    )
    worker = WorkerProcess(process, directory, port, metrics_port)
    try:
        if ready:
            await worker.until_status("/ready", 200)
        yield worker
    finally:
        await worker.aclose()
