"""From settings to an engine: first what is known before any weight is loaded, then the engine.

With `guessing`, what reaches for model files and torch in a worker. Knows no services.
"""

from dataclasses import dataclass

from baton.common.clock import SystemClock
from baton.common.errors import ConfigError
from baton.engine.blocks import BlockPool
from baton.engine.calibration import calibrate
from baton.engine.costmodel import CostModel
from baton.engine.engine import Engine
from baton.engine.plan import KvIdentity, SchedulerLimits
from baton.engine.quant.linear import kv_dtype
from baton.engine.runner import build_runner
from baton.engine.scheduler import Scheduler
from baton.handoff.layout import KvLayout
from baton.model.card import read_config
from baton.model.config import ModelConfig
from baton.model.fetch import LocalModel, resolve
from baton.model.progress import progress_for_stderr
from baton.model.tokenizer import load_tokenizer
from baton.rpc.channels import MESSAGE_BYTES_MAX
from baton.worker.guessing import new_guesser
from baton.worker.settings import WorkerSettings

FRAME_HEADER_BYTES_MAX = 1_024  # what a KV frame carries besides its payload, generously

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """What the model and the settings decide together."""

    model: LocalModel
    config: ModelConfig
    eos_token_ids: tuple[int, ...]
    layout: KvLayout
    block_count: int
    context_length_max: int  # tokens: what the model was trained for, or what the cache holds


def plan_model(settings: WorkerSettings) -> ModelPlan:
    """Fetch the model if need be and size the cache. Raises ModelFileError and ConfigError."""
    model = resolve(
        settings.model,
        cache_dir=settings.cache_dir.expanduser(),
        progress=progress_for_stderr(),
    )
    config = read_config(model)
    layout = KvLayout(
        model_revision=model.revision,
        layers=config.layers,
        kv_heads=config.kv_heads,
        head_size=config.head_size,
        block_size=settings.block_size,
        dtype=str(kv_dtype(settings.quantization)).removeprefix("torch."),
    )
    block_count = _block_count(settings, layout)
    return ModelPlan(
        model=model,
        config=config,
        eos_token_ids=load_tokenizer(model).eos_token_ids,
        layout=layout,
        block_count=block_count,
        context_length_max=min(config.context_length, block_count * settings.block_size),
    )


def build_engine(settings: WorkerSettings, plan: ModelPlan, costs: CostModel) -> Engine:
    """Load the weights, teach `costs` the first steps; the engine is ready. Raises ModelFileError.

    `costs` is nobody else's until this returns.
    """
    runner = build_runner(
        plan.model,
        plan.config,
        quantization=settings.quantization,
        block_count=plan.block_count,
        block_size=settings.block_size,
        threads=settings.threads,
        kernels=settings.kernels,
        kernel_cache_dir=settings.cache_dir.expanduser() / "kernels",
    )
    calibrate(
        runner,
        costs.learn,
        block_count=plan.block_count,
        block_size=settings.block_size,
        clock=SystemClock(),
    )
    pool = BlockPool(plan.block_count, settings.block_size)
    limits = SchedulerLimits(
        token_budget=settings.step_tokens_max,
        sequences_max=settings.sequences_max,
        context_length_max=plan.context_length_max,
    )
    identity = KvIdentity(plan.layout.model_revision, plan.layout.dtype)
    guesser = new_guesser(
        settings,
        plan.config,
        costs,
        block_count=plan.block_count,
        eos_token_ids=plan.eos_token_ids,
    )
    scheduler = Scheduler(limits, pool, identity, plan.eos_token_ids, guesser)
    return Engine(scheduler, pool, runner, runner.cache)


def _block_count(settings: WorkerSettings, layout: KvLayout) -> int:
    """Blocks that fit kv_cache_mib. Raises ConfigError for blocks no frame or cache can hold."""
    block_bytes = layout.block_bytes
    if block_bytes > MESSAGE_BYTES_MAX - FRAME_HEADER_BYTES_MAX:
        raise ConfigError(
            [
                f"block_size: a block of {settings.block_size} tokens has {block_bytes} bytes,"
                f" a frame of the hand-off takes {MESSAGE_BYTES_MAX}; choose fewer tokens"
            ]
        )
    block_count = settings.kv_cache_mib * MIB // block_bytes
    if block_count < 2:
        raise ConfigError(
            [f"kv_cache_mib: {settings.kv_cache_mib} MiB hold {block_count} blocks of this model"]
        )
    return block_count
