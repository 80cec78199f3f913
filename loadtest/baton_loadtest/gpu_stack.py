"""Router, a prefill and a decode worker on one device, started one after the other, and stopped.

A worker gives its cache what is free when it starts: the second starts when the first has taken its
share. Knows command lines and ports, not what is asked.
"""

import asyncio
import os
import sys
from asyncio.subprocess import STDOUT, Process
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from baton.cli.child import Child
from baton.cli.ports import free_ports
from baton.cli.pull import default_cache_dir
from baton.cli.readiness import wait_ready
from baton.cli.stack import LOOPBACK, StackOptions, stack_children
from baton.common.clock import Clock
from baton.engine.devices import DeviceChoice
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import Quantization
from baton.engine.speculation import Speculation

from baton_loadtest.stack import READY_LIMIT_S, stop, tethered, unless_ended

MODEL_NAME = "random"


@dataclass(frozen=True, slots=True)
class GpuStackSpec:
    model: Path  # a folder
    device: DeviceChoice
    quantization: Quantization
    kv_cache_dtype: KvCacheDtype
    memory_fraction: float  # of the device, both workers together
    log: Path  # gets what the processes say


@dataclass(frozen=True, slots=True)
class WorkerAt:
    address: str  # gRPC, host:port
    status_url: str  # HTTP: /ready and /metrics


@dataclass(frozen=True, slots=True)
class GpuStack:
    url: str  # of the router
    prefill: WorkerAt
    decode: WorkerAt
    processes: Mapping[str, Process]  # by name

    @property
    def ended(self) -> str | None:
        """Which of its processes is no more."""
        ended = [name for name, one in self.processes.items() if one.returncode is not None]
        return ", ".join(ended) or None

    async def while_up(self, work: Coroutine[None, None, None]) -> None:
        """Raises Unavailable where a process ends before: nobody answers what is asked then."""
        for name, process in self.processes.items():
            work = unless_ended(work, process, name)
        await work


@asynccontextmanager
async def running_gpu_stack(spec: GpuStackSpec, *, clock: Clock) -> AsyncIterator[GpuStack]:
    """A ready stack on free loopback ports. Raises Unavailable, DeadlineExceeded; the log says
    more."""
    port, *ports = free_ports(5)
    options = _options(spec, port)
    children = stack_children(options, ports[:2], sys.executable)
    prefill, decode = (
        WorkerAt(f"{LOOPBACK}:{address}", f"http://{LOOPBACK}:{status}")
        for address, status in zip(ports[:2], ports[2:], strict=True)
    )
    processes: dict[str, Process] = {}
    stack = GpuStack(f"http://{LOOPBACK}:{port}", prefill, decode, processes)
    # of the whole device: the second worker counts what the first has taken
    half, whole = spec.memory_fraction / 2, spec.memory_fraction
    async with AsyncExitStack() as running:
        client = await running.enter_async_context(httpx.AsyncClient(trust_env=False))
        log = running.enter_context(spec.log.open("ab"))

        async def start(child: Child, url: str, workers: dict[str, int] | None = None) -> None:
            command = tethered(*child.command)
            process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=STDOUT)
            running.push_async_callback(stop, process)
            processes[child.name] = process
            ready = wait_ready(client, url, workers=workers, clock=clock, limit_s=READY_LIMIT_S)
            await unless_ended(ready, process, child.name)

        await start(_on_device(children[0], spec, half, ports[2]), prefill.status_url)
        await start(_on_device(children[1], spec, whole, ports[3]), decode.status_url)
        await start(children[2], stack.url, options.workers)
        yield stack


def _on_device(worker: Child, spec: GpuStackSpec, fraction: float, status_port: int) -> Child:
    flags = (
        *("--device", spec.device.value, "--memory-fraction", str(fraction)),
        *("--metrics-port", str(status_port)),
    )
    return Child(worker.name, (*worker.command, *flags))


def _options(spec: GpuStackSpec, port: int) -> StackOptions:
    return StackOptions(
        model=f"file://{spec.model}",
        model_name=MODEL_NAME,
        host=LOOPBACK,
        port=port,
        prefill=1,
        decode=1,
        quantization=spec.quantization,
        kv_cache_dtype=spec.kv_cache_dtype,
        speculation=Speculation.NONE,
        draft_model=None,
        threads=1,
        cache_dir=default_cache_dir(os.environ),
    )
