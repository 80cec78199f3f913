"""Readers for `quality` on a CUDA device: the runner and the engine that serve there.

Imports the device's code, so it is for commands that have found a device. Judges nothing.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from baton.common.errors import EngineFailure
from baton.engine.batch import BatchSlice, StepBatch
from baton.engine.cuda.build import CudaParts, RunnerSpec, build_cuda_runner
from baton.engine.cuda.device import Device
from baton.engine.quant.kv import kv_dtype_name
from baton.engine.weights.open import open_weights
from baton.model.config import ModelConfig
from baton.model.fetch import LocalModel

from baton_loadtest.gpu_engine import engine_over
from baton_loadtest.quality import CONTINUATIONS_MAX, Loader, Variant, continued, row_parts

BLOCK_TOKENS = 16
MEMORY_FRACTION = 0.9
"""Of the device, as a worker takes by itself: one reader is on it at a time."""


@dataclass(frozen=True, slots=True)
class DeviceReader:
    """Implements Reader."""

    parts: CudaParts
    config: ModelConfig
    spec: RunnerSpec

    def log_probabilities(self, tokens: Sequence[int]) -> Iterator[torch.Tensor]:
        """Raises EngineFailure where the device has no memory for the window."""
        blocks = range(-(-len(tokens) // self.spec.block_size))
        runner = self.parts.runner
        (result,) = runner.run(StepBatch((BatchSlice("window", tokens, 0, blocks),)))
        if result.error is not None:
            raise EngineFailure(result.error)
        for part in row_parts(len(tokens)):
            yield torch.from_numpy(runner.logits(part)).log_softmax(-1)

    def continuations(self, windows: Sequence[Sequence[int]]) -> list[list[int]]:
        return continued(engine_over(self.parts, self.config, self.spec), windows)


def device_loader(
    local: LocalModel,
    config: ModelConfig,
    new_device: Callable[[], Device],
    *,
    window_tokens: int,
) -> Loader:
    """Readers of a model's files, one at a time: each takes the device for itself."""

    def load(variant: Variant) -> DeviceReader:
        gc.collect()
        device = new_device()
        # the last reader's memory, before weights settle in pieces of it
        device.release_cached()
        spec = RunnerSpec(
            quantization=variant.scheme,
            kv_dtype=kv_dtype_name(
                variant.scheme, variant.kv, block_size=BLOCK_TOKENS, head_size=config.head_size
            ),
            block_size=BLOCK_TOKENS,
            rows_max=window_tokens,
            sequences_max=CONTINUATIONS_MAX,
            memory_fraction=MEMORY_FRACTION,
        )
        with open_weights(local, config) as source:
            parts = build_cuda_runner(source, config, spec, device, lambda *_: None)
        return DeviceReader(parts, config, spec)

    return load
