"""What the KV cache can be told to hold, and what that takes. Pure; importing it costs no torch.

Knows names and sizes; knows no cache.
"""

from enum import Enum

from baton.common.errors import ConfigError
from baton.engine.quant.quantization import Quantization

SCALE_BYTES = 4
"""A float32 beside each 8-bit vector: of 64 values it is a sixteenth on top, and any value fits."""

INT8_UNIT = 16
"""Tokens of a block and values of a head come in multiples of this: the kernels read 16 at once."""


class KvCacheDtype(Enum):
    """Of `--kv-cache-dtype`. Part of the KV's identity: only equal ones may be exchanged."""

    AUTO = "auto"  # by the weights and the block's shape, see `kv_dtype_name`
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"  # symmetric levels, a scale per token and head
    FP8 = "fp8"  # 8-bit floats (e4m3), a scale per token and head; CUDA only


def kv_dtype_name(
    quantization: Quantization, choice: KvCacheDtype, *, block_size: int, head_size: int
) -> str:
    """What the KV cache holds; part of the KV's identity between workers.

    A function of what peers must have in common anyway, never of the machine: two workers of one
    service exchange KV whatever their processors can do.

    In a full batch a step reads more KV than weights: bfloat16 halves it, and the hand-off too,
    for an error far below that of any rounded weight. With 8-bit weights and activations 8-bit KV
    halves it once more, for a tenth of the error these have already.
    """
    if choice is not KvCacheDtype.AUTO:
        return str(choice.value)
    if quantization is Quantization.NONE:
        return str(KvCacheDtype.FLOAT32.value)
    fits = not _misfits(block_size, head_size)
    in_8_bits = quantization in (Quantization.INT8, Quantization.INT4) and fits
    return str((KvCacheDtype.INT8 if in_8_bits else KvCacheDtype.BFLOAT16).value)


def kv_vector_bytes(dtype: str, head_size: int) -> int:
    """Bytes of one head's key or value of one token. Raises KeyError for a dtype not held."""
    return {
        "float32": 4 * head_size,
        "bfloat16": 2 * head_size,
        "int8": head_size + SCALE_BYTES,
        "fp8": head_size + SCALE_BYTES,
    }[dtype]


def require_kv_on_cpu(dtype: str) -> None:
    """Raises ConfigError for what only a CUDA device's cache holds."""
    if dtype == KvCacheDtype.FP8.value:
        raise ConfigError(["kv_cache_dtype fp8 needs a CUDA device; on a CPU choose int8"])


def require_fit(dtype: str, *, block_size: int, head_size: int) -> None:
    """Raises ConfigError where a block of this shape cannot be held in `dtype`."""
    problems = _misfits(block_size, head_size) if dtype == "int8" else []
    if problems:
        raise ConfigError(problems)


def _misfits(block_size: int, head_size: int) -> list[str]:
    """Why 8-bit KV cannot be; empty where it can."""
    problems = []
    if block_size % INT8_UNIT:
        problems.append(f"block_size is {block_size}: an int8 KV cache takes multiples of 16")
    if head_size % INT8_UNIT:
        problems.append(
            f"kv_cache_dtype int8: heads of {head_size} values are no multiple of 16; choose auto"
        )
    return problems
