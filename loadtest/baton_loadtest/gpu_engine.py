"""An engine on a device, without a worker around it: scheduler, pipelining and graphs are as there.

Knows how such an engine is put together; knows nothing of what is asked of it.
"""

from baton.engine.blocks import BlockPool
from baton.engine.cuda.build import CudaParts, Report, RunnerSpec, build_cuda_runner
from baton.engine.cuda.device import Device
from baton.engine.cuda.pack import TensorSource
from baton.engine.engine import Engine
from baton.engine.plan import KvIdentity, SchedulerLimits
from baton.engine.scheduler import Scheduler
from baton.engine.weights.parts import WeightSource
from baton.model.config import ModelConfig


def gpu_engine(
    source: WeightSource | TensorSource,
    config: ModelConfig,
    spec: RunnerSpec,
    device: Device,
    report: Report,
) -> Engine:
    """Idle, with an empty cache. Requests end at their length, never at a token."""
    return engine_over(build_cuda_runner(source, config, spec, device, report), config, spec)


def engine_over(parts: CudaParts, config: ModelConfig, spec: RunnerSpec) -> Engine:
    """The same over a runner at hand; of one runner, only the newest engine may be used."""
    limits = SchedulerLimits(
        token_budget=spec.rows_max,
        sequences_max=spec.sequences_max,
        context_length_max=min(config.context_length, parts.block_count * spec.block_size),
    )
    pool = BlockPool(parts.block_count, spec.block_size)
    scheduler = Scheduler(limits, pool, KvIdentity("bench", spec.kv_dtype), ())
    return Engine(scheduler, pool, parts.runner, parts.kv, parts.runner)
