"""Where the time of a decode step goes: linear layers, attention, and all the rest.

Runs the engine's own runner in this process on made-up requests. The kernels tell their parts
themselves; of torch only the linear layers are known, measured alone (`linear_limit`), and the rest
of its step is attention and overhead in one. Knows no servers and no HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from baton.common.clock import Clock
from baton.engine.batch import BatchSlice, SampleRequest, StepBatch
from baton.engine.kernels.selection import Kernels, choose_library
from baton.engine.kvcache import PagedKvCache
from baton.engine.models.build import build_step_model
from baton.engine.models.native import NativeDecoder
from baton.engine.models.steps import HiddenRows, StepModel
from baton.engine.params import SamplingParams
from baton.engine.quant.quantization import Quantization
from baton.engine.runner import TorchRunner, empty_cache
from baton.engine.weights.open import open_weights
from baton.model.config import ModelConfig
from baton.model.fetch import LocalModel

BLOCK_TOKENS = 16
STEPS_MIN = 5
MEASURE_S = 2.0
"""Per batch size: tens of steps of a small model, of which the median counts."""

GREEDY = SamplingParams(max_tokens=1, temperature=0.0)


@dataclass(frozen=True, slots=True)
class StepProfile:
    """The median step of one batch size. Parts are None where the path does not tell them."""

    path: str  # "kernels" or "torch"
    batch: int
    step_s: float
    linear_s: float | None = None  # the head's included
    attention_s: float | None = None

    @property
    def rest_s(self) -> float | None:
        """Norms, rotary, KV store, sampling, Python."""
        if self.linear_s is None or self.attention_s is None:
            return None
        return self.step_s - self.linear_s - self.attention_s


class _TimedHead:
    """A StepModel that remembers how long its head took."""

    def __init__(self, model: StepModel, clock: Clock) -> None:
        self._model, self._clock = model, clock
        self.head_s = 0.0

    @property
    def config(self) -> ModelConfig:
        return self._model.config

    def compute(self, slices: Sequence[BatchSlice], cache: PagedKvCache) -> HiddenRows:
        return self._model.compute(slices, cache)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        began_s = self._clock.monotonic_s()
        logits = self._model.logits(hidden)
        self.head_s = self._clock.monotonic_s() - began_s
        return logits


def profile_steps(
    local: LocalModel,
    config: ModelConfig,
    quantization: Quantization,
    kernels: Kernels,
    *,
    batches: Sequence[int],
    context: int,
    threads: int,
    clock: Clock,
) -> tuple[StepProfile, ...]:
    """A profile per batch size, each request with `context` tokens in the cache."""
    library = choose_library(kernels, quantization)
    torch.set_num_threads(threads)
    with open_weights(local, config) as source:
        model = build_step_model(source, config, quantization, library=library, threads=threads)
    torch.set_num_threads(1 if library else threads)
    blocks = -(-(context + 1) // BLOCK_TOKENS)
    cache = empty_cache(config, quantization, blocks * max(batches), BLOCK_TOKENS)
    return tuple(
        _profile(model, cache, made_up_batch(batch, context, blocks), clock) for batch in batches
    )


def made_up_batch(batch: int, context: int, blocks: int) -> StepBatch:
    """One decode step of requests that share nothing."""
    sample = SampleRequest(GREEDY, [1] * context, (), ())
    return StepBatch(
        tuple(
            BatchSlice(
                str(index), [index], context, range(index * blocks, (index + 1) * blocks), sample
            )
            for index in range(batch)
        )
    )


def _profile(model: StepModel, cache: PagedKvCache, batch: StepBatch, clock: Clock) -> StepProfile:
    timed = _TimedHead(model, clock)
    runner = TorchRunner(timed, cache)
    runner.run(batch)  # the first one allocates
    profiles: list[StepProfile] = []
    began_s = clock.monotonic_s()
    while len(profiles) < STEPS_MIN or clock.monotonic_s() - began_s < MEASURE_S:
        before = model.time_spent if isinstance(model, NativeDecoder) else None
        step_began_s = clock.monotonic_s()
        runner.run(batch)
        step_s = clock.monotonic_s() - step_began_s
        profile = StepProfile("torch", len(batch.slices), step_s)
        if before is not None and isinstance(model, NativeDecoder):
            spent = model.time_spent
            profile = StepProfile(
                "kernels",
                len(batch.slices),
                step_s,
                linear_s=spent.linear_s - before.linear_s + timed.head_s,
                attention_s=spent.attention_s - before.attention_s,
            )
        profiles.append(profile)
    return sorted(profiles, key=lambda profile: profile.step_s)[len(profiles) // 2]
