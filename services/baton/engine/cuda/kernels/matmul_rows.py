"""Turns rows of activations and rounds them to int8, a scale for each: what int8 products take.

Each block of channels is multiplied by the same orthogonal matrix as the weights were, which
spreads the few large channels over their block. A row's scale depends on that row alone.
"""

import torch
import triton
import triton.language as tl

from baton.engine.cuda.kernels.launch import begin, launch
from baton.engine.cuda.kernels.rounding import in_units, largest_of, worth_of

# Rows of the smallest matrix that tensor cores multiply.
DOT_ROWS_MIN = 16
WIDE_ROW = 4_096
"""Channels from which a row keeps 8 warps busy."""


def turn_rows(x: torch.Tensor, values: torch.Tensor, scales: torch.Tensor, *, rotated: int) -> None:
    """x [T, inputs], bfloat16 or float32 -> values [T, inputs] int8 and scales [T] float32.
    `rotated`: channels turned together, a power of two of at least 16 that divides the inputs."""
    rows, inputs = x.shape
    if not rows:
        return
    launch(
        _turn_rows,
        (rows,),
        x,
        values,
        scales,
        x.stride(0),
        inputs,
        block=max(triton.next_power_of_2(inputs), DOT_ROWS_MIN * rotated),
        rotated=rotated,
        num_warps=8 if inputs >= WIDE_ROW else 4,
    )


@triton.jit
def _turn_rows(
    x,
    values,
    scales,
    x_stride,
    inputs,
    block: tl.constexpr,
    rotated: tl.constexpr,
    early: tl.constexpr,
):
    begin(early)
    row = tl.program_id(0).to(tl.int64)
    channels = tl.arange(0, block)
    inside = channels < inputs
    held = turned(tl.load(x + row * x_stride + channels, mask=inside, other=0.0), block, rotated)
    # what is not finite has no level: the row's scale tells of it
    spoiled = tl.sum(held * 0.0, axis=0)
    held = tl.where(tl.abs(held) < float("inf"), held, 0.0)
    largest = largest_of(held, 0)
    rounded = in_units(held, largest, values.dtype.element_ty)
    tl.store(values + row * inputs + channels, rounded, mask=inside)
    tl.store(scales + row, worth_of(largest, values.dtype.element_ty) + spoiled)


@triton.jit
def turned(held, block: tl.constexpr, rotated: tl.constexpr):
    """[block] -> [block] float32: each block of rotated channels times the Hadamard matrix."""
    at = tl.arange(0, rotated)
    # the matrix's sign is the parity of the bits that row and column have in common
    common = at[:, None] & at[None, :]
    common ^= common >> 4
    common ^= common >> 2
    common ^= common >> 1
    signs = (1 - 2 * (common & 1)).to(tl.float32)
    blocks = tl.reshape(held, (block // rotated, rotated))
    product = tl.dot(blocks, signs.to(blocks.dtype), input_precision="ieee")
    return tl.reshape(product, (block,)) * (1.0 / tl.sqrt(rotated * 1.0))
