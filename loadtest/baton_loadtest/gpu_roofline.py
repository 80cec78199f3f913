"""What a device's memory and arithmetic allow: the fastest a model could decode and prefill.

Pure. A decode step reads every weight it needs and the KV of every request once, so the copy rate
of the device bounds it; a prompt's products are bound by its matrix rate. Knows shapes; knows no
engine, and nothing of what an engine adds.
"""

from dataclasses import dataclass

from baton.engine.quant.kv import kv_vector_bytes
from baton.engine.quant.quantization import Quantization
from baton.model.config import ModelConfig, step_weight_count

WEIGHT_BYTES = {
    Quantization.NONE: 4.0,
    Quantization.BF16: 2.0,
    Quantization.FP8: 1.0,
    Quantization.INT8: 1.0,
    Quantization.INT8_WEIGHT_ONLY: 1.0,
    Quantization.INT4_WEIGHT_ONLY: 0.625,  # of each 32 a scale and a minimum in float16
}
"""Of a weight of the layers, as the device reads it. A scale per output counts for nothing."""


@dataclass(frozen=True, slots=True)
class DeviceRates:
    """Measured on the device itself."""

    copy_bytes_per_s: float  # read and written, both counted
    matrix_flop_per_s: float  # bfloat16


def decode_bytes(
    config: ModelConfig,
    quantization: Quantization,
    kv_dtype: str,
    *,
    requests: int,
    context_tokens: int,
) -> float:
    """What one decode step reads: weights once, and the KV of each request."""
    head = config.vocab_size * config.hidden_size
    # four bits are too few for the head: it has eight
    head_bytes = head * max(WEIGHT_BYTES[quantization], 1.0)
    layers = step_weight_count(config, requests) - head
    kv = requests * context_tokens * kv_bytes_per_token(config, kv_dtype)
    return layers * WEIGHT_BYTES[quantization] + head_bytes + kv


def kv_bytes_per_token(config: ModelConfig, kv_dtype: str) -> int:
    return 2 * config.layers * config.kv_heads * kv_vector_bytes(kv_dtype, config.head_size)


def decode_tokens_per_s(
    config: ModelConfig,
    quantization: Quantization,
    kv_dtype: str,
    rates: DeviceRates,
    *,
    requests: int,
    context_tokens: int,
) -> float:
    """Output tokens per second of all requests together, were reading all there is to do."""
    step_bytes = decode_bytes(
        config, quantization, kv_dtype, requests=requests, context_tokens=context_tokens
    )
    return requests * rates.copy_bytes_per_s / step_bytes


def prefill_flop(config: ModelConfig, tokens: int) -> float:
    """Multiplications and additions of one prompt: every layer for each token, the head for the
    last one, and attention of each token with those before it."""
    head = config.vocab_size * config.hidden_size
    layers = step_weight_count(config, 1) - head  # of a mixture, a token's own experts
    attention = 2 * config.layers * config.heads * config.head_size * tokens * (tokens + 1)
    return 2.0 * (layers * tokens + head) + attention


def prefill_tokens_per_s(config: ModelConfig, rates: DeviceRates, tokens: int) -> float:
    return tokens * rates.matrix_flop_per_s / prefill_flop(config, tokens)
