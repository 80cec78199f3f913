"""Starts `baton serve` for a measurement and stops it again.

Knows the command line, not the processes.
"""

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from baton.common.clock import Clock
from baton.common.errors import DeadlineExceeded, Unavailable

READY_LIMIT_S = 900.0
"""Pulling a model for the first time is part of it."""

STOP_LIMIT_S = 20.0
"""`baton serve` gives its children 10 s before it kills them."""

POLL_INTERVAL_S = 0.2


@dataclass(frozen=True, slots=True)
class StackSpec:
    """One topology to measure; the fields are flags of `baton serve`."""

    prefill: int
    decode: int
    model: str
    model_name: str
    quantization: str
    threads: int

    @property
    def label(self) -> str:
        return f"{self.prefill} prefill + {self.decode} decode" if self.prefill else "aggregated"


@asynccontextmanager
async def running_stack(spec: StackSpec, *, clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    """A client bound to a ready stack on a free loopback port.

    Raises Unavailable, DeadlineExceeded.
    """
    port = free_port()
    process = await asyncio.create_subprocess_exec(*command(spec, port), stdout=DEVNULL)
    limits = httpx.Limits(max_connections=None)
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", limits=limits, trust_env=False
        ) as client:
            await until_ready(client, process, clock=clock)
            yield client
    finally:
        await stop(process)


def command(spec: StackSpec, port: int) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "baton.cli", "serve", "--port", str(port)),
        *("--prefill", str(spec.prefill), "--decode", str(spec.decode)),
        *("--model", spec.model, "--model-name", spec.model_name),
        *("--quantization", spec.quantization, "--threads", str(spec.threads)),
    )


async def until_ready(client: httpx.AsyncClient, process: Process, *, clock: Clock) -> None:
    give_up_s = clock.monotonic_s() + READY_LIMIT_S
    while clock.monotonic_s() < give_up_s:
        if process.returncode is not None:
            raise Unavailable(f"baton serve ended with exit code {process.returncode}")
        try:
            answer = await client.get("/ready")
        except httpx.TransportError:
            pass
        else:
            if answer.status_code == httpx.codes.OK:
                return
        await asyncio.sleep(POLL_INTERVAL_S)
    raise DeadlineExceeded(f"baton serve was not ready after {READY_LIMIT_S:.0f} s")


async def stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_LIMIT_S):
            await process.wait()
    except TimeoutError:
        process.kill()  # its children are tethered to it
        await process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
