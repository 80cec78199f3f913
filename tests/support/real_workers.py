"""Workers with a model, as processes on loopback: `python -m baton.ROLE`, once it is ready."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from support.smollm2 import CACHE_DIR
from support.worker_processes import WorkerProcess, free_port


@asynccontextmanager
async def real_worker(
    role: str, model: Path, *flags: str, kv_cache_mib: int = 64
) -> AsyncIterator[WorkerProcess]:
    """`python -m baton.ROLE`, once it is ready."""
    port, metrics_port = free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"baton.{role}"),
        *("--model", f"file://{model}", "--model-name", "m", "--cache-dir", str(CACHE_DIR)),
        *(
            "--port",
            str(port),
            "--metrics-port",
            str(metrics_port),
            "--kv-cache-mib",
            str(kv_cache_mib),
            *flags,
        ),
        stdout=PIPE,
        stderr=PIPE,
    )
    worker = WorkerProcess(process, model, port, metrics_port)
    try:
        await worker.until_status("/ready", 200)
        yield worker
    finally:
        await worker.aclose()
