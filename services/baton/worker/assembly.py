"""From settings to an engine: first what is known before any weight is loaded, then the engine.

With `guessing`, what reaches for model files and torch in a worker. Knows no services.
"""

from baton.common.clock import SystemClock
from baton.common.errors import ConfigError
from baton.common.logs import get_log
from baton.engine.blocks import BlockPool
from baton.engine.calibration import calibrate
from baton.engine.costmodel import CostModel
from baton.engine.devices import DeviceChoice, choose_device
from baton.engine.engine import Engine
from baton.engine.kernels.selection import KERNELS_FOLDER
from baton.engine.kvcache import PagedKvCache
from baton.engine.plan import KvIdentity
from baton.engine.quant.kv import KvCacheDtype, kv_dtype_name, require_fit
from baton.engine.runner import CpuRunner, build_runner
from baton.engine.scheduler import Scheduler
from baton.handoff.layout import KvLayout
from baton.model.card import read_config
from baton.model.config import ModelConfig
from baton.model.fetch import LocalModel, resolve
from baton.model.progress import progress_for_stderr
from baton.model.tokenizer import load_eos_token_ids
from baton.rpc.channels import MESSAGE_BYTES_MAX
from baton.worker.guessing import find_draft, new_guesser
from baton.worker.limits import scheduler_limits
from baton.worker.memory import keep_freed
from baton.worker.plan import LoadedModel, ModelPlan
from baton.worker.progress import StepProgress, WatchedLauncher, WatchedRunner
from baton.worker.settings import WorkerSettings

FRAME_HEADER_BYTES_MAX = 1_024  # what a KV frame carries besides its payload, generously

MIB = 1024 * 1024


def plan_model(settings: WorkerSettings) -> ModelPlan:
    """Fetch the model if need be and size the cache; on a CUDA device, load it for that. Raises
    ModelFileError and ConfigError."""
    device = choose_device(settings.device)
    model = resolve(
        settings.model,
        cache_dir=settings.cache_dir.expanduser(),
        progress=progress_for_stderr(),
    )
    config = read_config(model)
    dtype = kv_dtype_name(
        settings.quantization,
        settings.kv_cache_dtype,
        block_size=settings.block_size,
        head_size=config.head_size,
    )
    require_fit(dtype, block_size=settings.block_size, head_size=config.head_size)
    layout = KvLayout(
        model_revision=model.revision,
        layers=config.layers,
        kv_heads=config.kv_heads,
        head_size=config.head_size,
        block_size=settings.block_size,
        dtype=dtype,
    )
    _require_frame(settings, layout)
    if device is DeviceChoice.CUDA:
        from baton.worker.device_assembly import plan_on_device

        return plan_on_device(settings, model, config, layout)
    block_count = _block_count(settings, layout)
    return ModelPlan(
        model=model,
        config=config,
        eos_token_ids=load_eos_token_ids(model),
        layout=layout,
        block_count=block_count,
        context_length_max=min(config.context_length, block_count * settings.block_size),
    )


def build_engine(
    settings: WorkerSettings, plan: ModelPlan, costs: CostModel, progress: StepProgress
) -> Engine:
    """Load the weights, teach `costs` the first steps; the engine is ready. Raises ModelFileError.

    `costs` is nobody else's until this returns. Every model step is noted in `progress`.
    """
    loaded = plan.loaded or _load_on_cpu(settings, plan)
    get_log(__name__).info("weights loaded")
    launcher = None if loaded.launcher is None else WatchedLauncher(loaded.launcher, progress)
    runner = launcher or WatchedRunner(loaded.runner, progress)
    calibrate(
        runner,
        costs.learn,
        block_count=plan.block_count,
        block_size=settings.block_size,
        clock=SystemClock(),
    )
    if isinstance(loaded.kv, PagedKvCache):  # a device's is taken as a whole, written or not
        loaded.kv.clear()
    pool = BlockPool(plan.block_count, settings.block_size)
    limits = scheduler_limits(
        settings,
        plan.device,
        context_length_max=plan.context_length_max,
        prefill_token_s=costs.coefficients.prefill_token_s,
    )
    identity = KvIdentity(plan.layout.model_revision, plan.layout.dtype)
    draft = None if loaded.draft is None else WatchedRunner(loaded.draft, progress)
    guesser = new_guesser(settings, plan, costs, draft)
    scheduler = Scheduler(limits, pool, identity, plan.eos_token_ids, guesser)
    return Engine(scheduler, pool, runner, loaded.kv, launcher)


def _load_on_cpu(settings: WorkerSettings, plan: ModelPlan) -> LoadedModel:
    keep_freed()
    runner = _cpu_runner(settings, plan, plan.model, plan.config, settings.kv_cache_dtype)
    found = find_draft(settings, plan.config)
    draft = None if found is None else _cpu_runner(settings, plan, *found, KvCacheDtype.AUTO)
    return LoadedModel(runner, runner.cache, draft=draft)


def _cpu_runner(
    settings: WorkerSettings,
    plan: ModelPlan,
    model: LocalModel,
    config: ModelConfig,
    kv: KvCacheDtype,
) -> CpuRunner:
    return build_runner(
        model,
        config,
        quantization=settings.quantization,
        block_count=plan.block_count,
        block_size=settings.block_size,
        threads=settings.threads,
        niceness=settings.niceness,
        kv=kv,
        kernels=settings.kernels,
        kernel_cache_dir=settings.cache_dir.expanduser() / KERNELS_FOLDER,
    )


def _require_frame(settings: WorkerSettings, layout: KvLayout) -> None:
    """Raises ConfigError for blocks that no frame of the hand-off can hold."""
    if layout.block_bytes > MESSAGE_BYTES_MAX - FRAME_HEADER_BYTES_MAX:
        raise ConfigError(
            [
                f"block_size: a block of {settings.block_size} tokens has {layout.block_bytes}"
                f" bytes, a frame of the hand-off takes {MESSAGE_BYTES_MAX}; choose fewer tokens"
            ]
        )


def _block_count(settings: WorkerSettings, layout: KvLayout) -> int:
    """Blocks that fit kv_cache_mib. Raises ConfigError where hardly any do."""
    block_count = settings.kv_cache_mib * MIB // layout.block_bytes
    if block_count < 2:
        raise ConfigError(
            [f"kv_cache_mib: {settings.kv_cache_mib} MiB hold {block_count} blocks of this model"]
        )
    return block_count
