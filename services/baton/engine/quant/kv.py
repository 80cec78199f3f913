"""What the KV cache can be told to hold, and what that takes. Pure; importing it costs no torch.

Knows names and sizes; knows no cache.
"""

from enum import Enum

from baton.common.errors import ConfigError
from baton.engine.quant.quantization import Quantization

INT8_SCALE_BYTES = 4
"""A float32 beside each 8-bit vector: of 64 values it is a sixteenth on top, and any value fits."""

INT8_UNIT = 16
"""Tokens of a block and values of a head come in multiples of this: the kernels read 16 at once."""


class KvCacheDtype(Enum):
    """Of `--kv-cache-dtype`. Part of the KV's identity: only equal ones may be exchanged."""

    AUTO = "auto"  # by the weights, see `kv_dtype_name`
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"  # symmetric levels, a scale per token and head


def kv_dtype_name(quantization: Quantization, choice: KvCacheDtype) -> str:
    """What the KV cache holds; part of the KV's identity between workers.

    In a full batch a step reads more KV than weights: bfloat16 halves it, and the hand-off too,
    for an error far below that of any rounded weight.
    """
    if choice is not KvCacheDtype.AUTO:
        return str(choice.value)
    exact = quantization is Quantization.NONE
    return str((KvCacheDtype.FLOAT32 if exact else KvCacheDtype.BFLOAT16).value)


def kv_vector_bytes(dtype: str, head_size: int) -> int:
    """Bytes of one head's key or value of one token. Raises KeyError for a dtype not held."""
    return {
        "float32": 4 * head_size,
        "bfloat16": 2 * head_size,
        "int8": head_size + INT8_SCALE_BYTES,
    }[dtype]


def require_fit(dtype: str, *, block_size: int, head_size: int) -> None:
    """Raises ConfigError where a block of this shape cannot be held in `dtype`."""
    if dtype != "int8":
        return
    problems = []
    if block_size % INT8_UNIT:
        problems.append(f"block_size is {block_size}: an int8 KV cache takes multiples of 16")
    if head_size % INT8_UNIT:
        problems.append(
            f"kv_cache_dtype int8: heads of {head_size} values are no multiple of 16; choose auto"
        )
    if problems:
        raise ConfigError(problems)
