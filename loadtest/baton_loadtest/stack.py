"""Starts `baton serve` for a measurement and stops it again.

Knows the command line, not the processes.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from baton.cli.ports import free_ports
from baton.cli.readiness import wait_ready
from baton.common.clock import Clock
from baton.common.errors import Unavailable

READY_LIMIT_S = 900.0
"""Pulling a model for the first time is part of it."""

STOP_LIMIT_S = 20.0
"""`baton serve` gives its children 10 s before it kills them."""


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
        return f"{self.prefill}P + {self.decode}D" if self.prefill else "aggregated"

    @property
    def workers(self) -> dict[str, int]:
        return {"prefill": self.prefill, "decode": self.decode}


@asynccontextmanager
async def running_stack(spec: StackSpec, *, clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    """A client bound to a ready stack on a free loopback port.

    Raises Unavailable, DeadlineExceeded.
    """
    [port] = free_ports(1)
    process = await asyncio.create_subprocess_exec(*tethered(*command(spec, port)), stdout=DEVNULL)
    limits = httpx.Limits(max_connections=None)
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", limits=limits, trust_env=False
        ) as client:
            ready = wait_ready(client, "", workers=spec.workers, clock=clock, limit_s=READY_LIMIT_S)
            await unless_ended(ready, process, "baton serve")
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


def tethered(*command: str) -> tuple[str, ...]:
    """A measurement that is killed takes what it has started with it."""
    return (sys.executable, "-m", "baton.cli.tether", str(os.getpid()), *command)


async def unless_ended(waiting: Coroutine[None, None, None], process: Process, name: str) -> None:
    """Wait for a process to become what is waited for. Raises Unavailable when it ends before."""
    ready, ended = asyncio.create_task(waiting), asyncio.create_task(process.wait())
    try:
        await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            raise Unavailable(f"{name} ended with exit code {process.returncode}")
        ready.result()
    finally:
        ready.cancel()
        ended.cancel()


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
