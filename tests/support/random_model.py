"""A small model of random weights without any file, for tests of the runner."""

from dataclasses import replace

from baton.engine.kernels.library import KernelLibrary
from baton.engine.models.step_model import build_step_model
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import Quantization
from baton.engine.runner import CpuRunner, empty_cache
from baton.engine.weights.parts import Floats, Part, WeightSource
from baton.engine.weights.random_weights import RandomWeights
from baton.model.config import Family, ModelConfig

CONFIG = ModelConfig(
    family=Family.QWEN3,
    vocab_size=211,
    hidden_size=48,
    intermediate_size=80,
    layers=2,
    heads=6,
    kv_heads=2,
    head_size=16,
    context_length=1024,
    rms_norm_eps=1e-6,
    rope_theta=10_000.0,
    qkv_bias=True,
    qk_norm=True,
)
MIXTURE = ModelConfig(
    family=Family.QWEN3_MOE,
    vocab_size=64,
    hidden_size=32,
    intermediate_size=1,
    layers=1,
    heads=2,
    kv_heads=1,
    head_size=16,
    context_length=64,
    rms_norm_eps=1e-6,
    rope_theta=10_000.0,
    qk_norm=True,
    experts=4,
    experts_per_token=2,
    expert_intermediate_size=16,
    norm_topk_prob=True,
)
WINDOWED = replace(CONFIG, sliding_window=10, sliding_layers=(1,))
POISON_TOKEN = 210


class PoisonedWeights:
    """Weights under which POISON_TOKEN, and nothing else, turns its row to NaN."""

    def __init__(self, source: WeightSource) -> None:
        self._source = source

    def fetch(self, part: Part, layer: int | None = None) -> Floats:
        array = self._source.fetch(part, layer)
        if part is Part.EMBEDDING:
            array[POISON_TOKEN] = float("nan")
        return array


def random_runner(
    config: ModelConfig = CONFIG,
    *,
    quantization: Quantization = Quantization.NONE,
    kv: KvCacheDtype = KvCacheDtype.AUTO,
    block_count: int = 64,
    block_size: int = 4,
    poisoned: bool = False,
    library: KernelLibrary | None = None,
    threads: int = 1,
) -> CpuRunner:
    """On torch, or on the kernels of `library`. An int8 KV cache needs blocks of 16."""
    source: WeightSource = RandomWeights(config, seed=1)
    decoder = build_step_model(
        PoisonedWeights(source) if poisoned else source,
        config,
        quantization,
        library=library,
        threads=threads,
    )
    return CpuRunner(decoder, empty_cache(config, quantization, block_count, block_size, kv))
