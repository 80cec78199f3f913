"""The gate of the MLP: silu(gate) * up, and rows rounded to 8 bits.

Knows rows; knows no weights.
"""

import torch
import triton
import triton.language as tl

from baton.engine.cuda.kernels.launch import begin, launch
from baton.engine.cuda.kernels.rounding import (
    in_units,
    is_quantized,
    largest_of,
    row_block,
    row_warps,
    worth_of,
)

# Columns of one program where rows need not be seen whole: 8 numbers a thread.
COLUMNS = 1024
COLUMN_WARPS = 4


def silu_mul(
    gate_up: torch.Tensor, out: torch.Tensor, out_scale: torch.Tensor | None = None
) -> None:
    """gate_up [T, 2 * intermediate], gates first -> out [T, intermediate] = silu(gate) * up.

    Contiguous, of any float type; computed in float32. Where `out` is int8 or float8_e4m3fn, each
    row is divided by its own scale, which goes to out_scale [T] float32.
    """
    rows, width = out.shape
    assert gate_up.shape == (rows, 2 * width)
    whole = is_quantized(out, out_scale)
    if rows == 0:
        return
    block = row_block(width) if whole else COLUMNS
    launch(
        _silu_mul,
        (rows, 1 if whole else triton.cdiv(width, block)),
        gate_up,
        out,
        out_scale,
        width=width,
        block=block,
        num_warps=row_warps(block) if whole else COLUMN_WARPS,
    )


def quantize_rows(x: torch.Tensor, out: torch.Tensor, out_scale: torch.Tensor) -> None:
    """x [T, n] of any float type -> out [T, n] int8 or float8_e4m3fn and out_scale [T] float32."""
    rows, width = x.shape
    is_quantized(out, out_scale)
    if rows == 0:
        return
    block = row_block(width)
    launch(
        _quantize_rows,
        (rows,),
        x,
        out,
        out_scale,
        width=width,
        block=block,
        num_warps=row_warps(block),
    )


@triton.jit
def _silu_mul(
    gate_up, out, out_scale, width: tl.constexpr, block: tl.constexpr, early: tl.constexpr
):
    """A row, or `block` columns of it, a program."""
    begin(early)
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    inside = columns < width
    source = gate_up + row * (2 * width) + columns
    gate = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(source + width, mask=inside, other=0.0).to(tl.float32)
    x = gate * tl.sigmoid(gate) * up
    at = row * width + columns
    if out_scale is not None:
        largest = largest_of(x, 0)
        tl.store(out_scale + row, worth_of(largest, out.dtype.element_ty))
        tl.store(out + at, in_units(x, largest, out.dtype.element_ty), mask=inside)
    else:
        tl.store(out + at, x.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _quantize_rows(
    x, out, out_scale, width: tl.constexpr, block: tl.constexpr, early: tl.constexpr
):
    """One row a program."""
    begin(early)
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    inside = columns < width
    at = row * width + columns
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    largest = largest_of(values, 0)
    tl.store(out_scale + row, worth_of(largest, out.dtype.element_ty))
    tl.store(out + at, in_units(values, largest, out.dtype.element_ty), mask=inside)
