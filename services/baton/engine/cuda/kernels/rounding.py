"""How a row of float32 numbers becomes 8-bit ones and what each of these is worth.

Knows int8 levels and fp8 (e4m3); knows nothing of what the rows are.
"""

import torch
import triton
import triton.language as tl

LEVELS = 127.0  # -127..127: symmetric, so that no product needs a zero point
FP8_MAX = 448.0  # the largest e4m3 number
# A row of zeros has no scale; this one keeps it zeros.
LARGEST_MIN = 1e-30

_LEVELS = tl.constexpr(LEVELS)
_FP8_MAX = tl.constexpr(FP8_MAX)
_LARGEST_MIN = tl.constexpr(LARGEST_MIN)
# 1.5 * 2**23: added and taken away again, it rounds small float32 numbers to even whole ones.
_WHOLE = tl.constexpr(12582912.0)


@triton.jit
def largest_of(values, axis: tl.constexpr):
    """Along `axis`, the largest magnitude, at least LARGEST_MIN; NaN where one is not finite."""
    spoiled = tl.sum(values * 0.0, axis)  # 0 or NaN: a maximum would pass NaN over
    return tl.maximum(tl.max(tl.abs(values), axis), _LARGEST_MIN) + spoiled


@triton.jit
def worth_of(largest, dtype: tl.constexpr):
    """What one unit of `dtype` stands for where `largest` becomes its largest number."""
    return largest / _LEVELS if dtype == tl.int8 else largest / _FP8_MAX


@triton.jit
def in_units(values, largest, dtype: tl.constexpr):
    """float32 values as numbers of `dtype`, rounded to the nearest; `largest` broadcasts.

    What is not finite has no level: what a unit is worth tells of it.
    """
    if dtype == tl.int8:
        scaled = values * (_LEVELS / largest)
        scaled = tl.where(scaled == scaled, scaled, 0.0)
        units = ((scaled + _WHOLE) - _WHOLE).to(dtype)
    else:
        units = (values * (_FP8_MAX / largest)).to(dtype)
    return units


def row_block(columns: int) -> int:
    """Columns a program holds at once, where it holds a whole row."""
    return int(triton.next_power_of_2(columns))


def row_warps(block: int) -> int:
    """Warps for a row of `block` columns: some 16 numbers a thread, at most 512 threads."""
    return min(16, max(1, block // 512))


def is_quantized(out: torch.Tensor, out_scale: torch.Tensor | None) -> bool:
    """Whether rows leave in 8 bits; their scales then must have a place."""
    quantized = out.element_size() == 1
    assert quantized == (out_scale is not None), "8-bit rows and scales belong together"
    return quantized
