"""From settings to a runner on a CUDA device: the part of `assembly` that only such workers import.

The cache gets what weights, work space and graphs leave, so a plan exists only once they are there.
Knows no services.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from baton.common.logs import get_log
from baton.engine.calibration import ROWS_MAX, SEQUENCES_MAX
from baton.engine.cuda.build import DraftModel, RunnerSpec, build_cuda_runner
from baton.engine.cuda.device import CudaDevice, Device
from baton.engine.devices import DeviceChoice
from baton.engine.quant.kv import KvCacheDtype, kv_dtype_name
from baton.engine.weights.open import open_weights
from baton.handoff.layout import KvLayout
from baton.model.config import ModelConfig
from baton.model.fetch import LocalModel
from baton.model.tokenizer import load_eos_token_ids
from baton.worker.guessing import find_draft
from baton.worker.plan import LoadedModel, ModelPlan
from baton.worker.settings import WorkerSettings


def plan_on_device(
    settings: WorkerSettings, model: LocalModel, config: ModelConfig, layout: KvLayout
) -> ModelPlan:
    """Load the weights and give the cache what is left. Raises ModelFileError and ConfigError."""
    return plan_on(CudaDevice(), settings, model, config, layout)


def plan_on(
    device: Device,
    settings: WorkerSettings,
    model: LocalModel,
    config: ModelConfig,
    layout: KvLayout,
) -> ModelPlan:
    """The same on a device at hand."""
    spec = RunnerSpec(
        quantization=settings.quantization,
        kv_dtype=layout.dtype,
        block_size=settings.block_size,
        # calibration's steps must fit as well
        rows_max=max(settings.step_tokens(DeviceChoice.CUDA), ROWS_MAX),
        sequences_max=max(settings.sequences_max, SEQUENCES_MAX),
        memory_fraction=settings.memory_fraction,
    )
    with open_weights(model, config) as source, _open_draft(settings, config) as draft:
        parts = build_cuda_runner(source, config, spec, device, _report, draft)
    get_log(__name__).info("device ready", kv_blocks=parts.block_count)
    held = parts.block_count * settings.block_size
    return ModelPlan(
        model=model,
        config=config,
        eos_token_ids=load_eos_token_ids(model),
        layout=layout,
        block_count=parts.block_count,
        context_length_max=min(config.context_length, held),
        device=DeviceChoice.CUDA,
        loaded=LoadedModel(parts.runner, parts.kv, parts.runner, parts.draft),
    )


@contextmanager
def _open_draft(settings: WorkerSettings, target: ModelConfig) -> Iterator[DraftModel | None]:
    """The draft that the settings ask for, while its files are open. Its KV never leaves the
    device, so it is held as its own shape allows."""
    found = find_draft(settings, target)
    if found is None:
        yield None
        return
    model, config = found
    kv_dtype = kv_dtype_name(
        settings.quantization,
        KvCacheDtype.AUTO,
        block_size=settings.block_size,
        head_size=config.head_size,
    )
    with open_weights(model, config) as source:
        yield DraftModel(source, config, kv_dtype)


def _report(what: str, done: int, wanted: int) -> None:
    """The progress of a start that takes minutes, a line per piece."""
    get_log(__name__).info("warming up", what=what, done=done, of=wanted)
