"""What a GPU's bench is asked, of the engine alone and of workers alike. Knows no device."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from baton.engine.quant.kv import KvCacheDtype, kv_dtype_name
from baton.engine.quant.quantization import Quantization
from baton.model.config import ModelConfig

BLOCK_TOKENS = 16
REQUESTS = (1, 8, 64)
CONTEXT_TOKENS = 1_024
PROMPTS = (2_048, 8_192)


class ShapeName(Enum):
    LLAMA_3_1_8B = "llama-3.1-8b"
    QWEN3_8B = "qwen3-8b"
    QWEN3_30B_A3B = "qwen3-30b-a3b"


@dataclass(frozen=True, slots=True)
class GpuBenchSpec:
    config: ModelConfig
    quantization: Quantization
    kv_cache_dtype: KvCacheDtype
    memory_fraction: float
    requests: Sequence[int]  # at once, a figure each
    context_tokens: int
    prompts: Sequence[int]  # tokens, a figure each

    @property
    def kv_dtype(self) -> str:
        """What KV blocks hold: chosen, or what goes with the weights."""
        return kv_dtype_name(
            self.quantization,
            self.kv_cache_dtype,
            block_size=BLOCK_TOKENS,
            head_size=self.config.head_size,
        )
