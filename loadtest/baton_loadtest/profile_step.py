"""Where the time of a decode step goes: linear layers, attention, and all the rest.

Runs the engine's own runner in this process on made-up requests. The kernels tell their parts
themselves; of torch only the linear layers are known, measured alone (`linear_limit`), and the rest
of its step is attention and overhead in one. Knows no servers and no HTTP.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from baton.common.clock import Clock
from baton.engine.batch import BatchSlice, SampleRequest, StepBatch
from baton.engine.kernels.selection import Kernels, choose_library
from baton.engine.kvcache import PagedKvCache
from baton.engine.models.native import NativeDecoder
from baton.engine.models.step_model import build_step_model
from baton.engine.models.steps import StepModel, StepTime
from baton.engine.params import SamplingParams
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import Quantization
from baton.engine.runner import CpuRunner, empty_cache
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
    kv: KvCacheDtype
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


def profile_steps(
    local: LocalModel,
    config: ModelConfig,
    quantization: Quantization,
    kernels: Kernels,
    *,
    kvs: Sequence[KvCacheDtype],
    batches: Sequence[int],
    context: int,
    threads: int,
    clock: Clock,
) -> tuple[StepProfile, ...]:
    """A profile per batch size and type of KV, each request with `context` tokens in the cache."""
    library = choose_library(kernels, quantization, experts=config.experts)
    with open_weights(local, config) as source:
        model = build_step_model(source, config, quantization, library=library, threads=threads)
    blocks = -(-(context + 1) // BLOCK_TOKENS)
    caches = {
        kv: empty_cache(config, quantization, blocks * max(batches), BLOCK_TOKENS, kv) for kv in kvs
    }
    path = "torch" if library is None else "kernels"
    return tuple(
        profile
        for batch in batches
        for profile in _profiles(path, model, caches, made_up_batch(batch, context, blocks), clock)
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


def _profiles(
    path: str,
    model: StepModel,
    caches: Mapping[KvCacheDtype, PagedKvCache],
    batch: StepBatch,
    clock: Clock,
) -> list[StepProfile]:
    """The types of KV take turns, step by step: what disturbs one disturbs the others."""
    runners = {kv: CpuRunner(model, cache) for kv, cache in caches.items()}
    found: dict[KvCacheDtype, list[StepProfile]] = {kv: [] for kv in caches}
    for runner in runners.values():
        runner.run(batch)  # the first one allocates
    began_s, rounds = clock.monotonic_s(), 0
    while rounds < STEPS_MIN or clock.monotonic_s() - began_s < MEASURE_S * len(caches):
        rounds += 1
        for kv, runner in runners.items():
            found[kv].append(_profile(path, kv, model, runner, batch, clock))
    return [
        sorted(profiles, key=lambda profile: profile.step_s)[len(profiles) // 2]
        for profiles in found.values()
    ]


def _profile(
    path: str,
    kv: KvCacheDtype,
    model: StepModel,
    runner: CpuRunner,
    batch: StepBatch,
    clock: Clock,
) -> StepProfile:
    before, began_s = _time_spent(model), clock.monotonic_s()
    runner.run(batch)
    step_s = clock.monotonic_s() - began_s
    after, size = _time_spent(model), len(batch.slices)
    if before is None or after is None:
        return StepProfile(path, kv, size, step_s)
    return StepProfile(
        path,
        kv,
        size,
        step_s,
        linear_s=after.linear_s - before.linear_s,
        attention_s=after.attention_s - before.attention_s,
    )


def _time_spent(model: StepModel) -> StepTime | None:
    """Where the time went so far; None where the model does not tell."""
    return model.time_spent if isinstance(model, NativeDecoder) else None
