"""The residual stream between sublayers: add what a sublayer found, norm the sum.

Knows rows; knows nothing of what comes before or after.
"""

import torch
import triton
import triton.language as tl

from baton.engine.cuda.kernels.launch import ask_for, launch, let_next_start, wait_for_earlier
from baton.engine.cuda.kernels.rounding import (
    in_units,
    is_quantized,
    largest_of,
    row_block,
    row_warps,
    worth_of,
)


def add_rms_norm(
    delta: torch.Tensor | None,
    residual: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    out: torch.Tensor,
    out_scale: torch.Tensor | None = None,
) -> None:
    """residual += delta, in place; out = residual / rms(residual) * weight.

    delta, residual, out [T, hidden], weight [hidden], contiguous, each of any float type; computed
    in float32. Where `out` is int8 or float8_e4m3fn, each row is divided by its own scale, which
    goes to out_scale [T] float32. Without `delta` the residual is only read.
    """
    rows, hidden = residual.shape
    is_quantized(out, out_scale)
    if rows == 0:
        return
    block = row_block(hidden)
    launch(
        _add_rms_norm,
        (rows,),
        delta,
        residual,
        weight,
        out,
        out_scale,
        eps,
        hidden=hidden,
        block=block,
        num_warps=row_warps(block),
    )


@triton.jit
def _add_rms_norm(
    delta,
    residual,
    weight,
    out,
    out_scale,
    eps,
    hidden: tl.constexpr,
    block: tl.constexpr,
    early: tl.constexpr,
):
    """One row a program."""
    let_next_start(early)
    if early:
        line: tl.constexpr = 1024 // weight.dtype.element_ty.primitive_bitwidth  # 128 bytes
        ask_for(weight + tl.minimum(tl.arange(0, block // line) * line, hidden - 1))
    wait_for_earlier(early)
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    inside = columns < hidden
    at = row * hidden + columns
    x = tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
    # beside the rows, not after their sum: it comes from memory
    factors = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    if delta is not None:
        x += tl.load(delta + at, mask=inside, other=0.0).to(tl.float32)
        kept = x.to(residual.dtype.element_ty)
        tl.store(residual + at, kept, mask=inside)
        x = kept.to(tl.float32)  # what later layers will read
    x *= tl.rsqrt(tl.sum(x * x, 0) / hidden + eps)
    x *= factors
    if out_scale is not None:
        largest = largest_of(x, 0)
        tl.store(out_scale + row, worth_of(largest, out.dtype.element_ty))
        tl.store(out + at, in_units(x, largest, out.dtype.element_ty), mask=inside)
    else:
        tl.store(out + at, x.to(out.dtype.element_ty), mask=inside)
