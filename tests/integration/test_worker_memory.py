"""What a worker holds in memory while nobody asks it anything."""

from pathlib import Path

from baton.model.config import Family
from support.kernels import kernels
from support.real_workers import real_worker
from support.tiny_models import tiny_model
from support.worker_processes import WorkerProcess, until

MIB = 1024 * 1024
KV_CACHE_MIB = 512  # several times what the rest of the process takes


def anonymous_bytes(worker: WorkerProcess) -> int:
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


async def test_an_idle_worker_comes_to_hold_its_whole_cache(tmp_path: Path) -> None:
    """So that no step waits for the system to find and clear pages."""
    kernels()
    model = tiny_model(Family.LLAMA, tmp_path).path
    async with real_worker("decode", model, kv_cache_mib=KV_CACHE_MIB) as worker:

        async def held() -> bool:
            return anonymous_bytes(worker) > KV_CACHE_MIB * MIB

        await until(held)
