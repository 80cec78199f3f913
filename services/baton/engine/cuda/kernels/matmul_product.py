"""The product of some rows with a packed weight, for every scheme, in one launch.

Where a tile is split along its inputs, the last program to arrive adds up what all have written, in
their order: the same sum every time, and no second launch. Knows no model.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from baton.engine.cuda.kernels.launch import launch, let_next_start, wait_for_earlier
from baton.engine.cuda.kernels.matmul_plan import SKINNY_ROWS_MAX, MatmulPlan
from baton.engine.cuda.kernels.matmul_tiles import dense_sum, fetch_ahead, paired_sum


@dataclass(frozen=True, slots=True)
class Factors:
    """What turns sums of levels into outputs; None: not of this scheme."""

    row_scales: torch.Tensor | None = None  # [T] float32
    weight_scales: torch.Tensor | None = None  # [outputs] float32; int4: [outputs, groups] float16
    minima: torch.Tensor | None = None  # int4: [outputs, groups] float16
    bias: torch.Tensor | None = None  # [outputs] float32


def multiply(
    x: torch.Tensor,
    weight: torch.Tensor,
    factors: Factors,
    out: torch.Tensor,
    *,
    plan: MatmulPlan,
    partials: torch.Tensor,
    counters: torch.Tensor,
) -> None:
    """x [T, inputs] -> out [T, outputs]. `partials`: float32, `counters`: int32 zeros, and zeros
    again when it is done; read only where the plan splits."""
    rows, inputs = x.shape
    outputs = out.shape[1]
    if not rows:
        return
    grid = (
        triton.cdiv(outputs, plan.block_outputs),
        triton.cdiv(rows, plan.block_rows),
        plan.splits,
    )
    launch(
        _multiply,
        grid,
        x,
        weight,
        factors.row_scales,
        factors.weight_scales,
        factors.minima,
        factors.bias,
        out,
        partials,
        counters,
        rows,
        x.stride(0),
        out.stride(0),
        output_count=outputs,
        input_count=inputs,
        paired=factors.minima is not None,
        skinny=rows <= SKINNY_ROWS_MAX,
        splits=plan.splits,
        block_rows=plan.block_rows,
        block_outputs=plan.block_outputs,
        block_inputs=plan.block_inputs,
        ahead_bytes=plan.ahead_bytes,
        num_warps=plan.warps,
        num_stages=plan.stages,
    )


@triton.jit(do_not_specialize=["rows"])  # one variant for any number of rows
def _multiply(
    x,
    w,
    row_scales,
    weight_scales,
    minima,
    bias,
    out,
    partials,
    counters,
    rows,
    x_stride,
    out_stride,
    output_count: tl.constexpr,
    input_count: tl.constexpr,
    paired: tl.constexpr,
    skinny: tl.constexpr,
    splits: tl.constexpr,
    block_rows: tl.constexpr,
    block_outputs: tl.constexpr,
    block_inputs: tl.constexpr,
    ahead_bytes: tl.constexpr,
    early: tl.constexpr,
):
    let_next_start(early)
    steps: tl.constexpr = (input_count + block_inputs - 1) // block_inputs
    share: tl.constexpr = (steps + splits - 1) // splits
    split = tl.program_id(2)
    output_ids = tl.program_id(0) * block_outputs + tl.arange(0, block_outputs)
    row_ids = tl.program_id(1) * block_rows + tl.arange(0, block_rows)
    output_there, row_there = output_ids < output_count, row_ids < rows
    first = split * share
    last = tl.minimum(first + share, steps)
    x_at = row_ids.to(tl.int64) * x_stride
    w_ids = output_ids.to(tl.int64)
    if early and skinny:
        kept = tl.minimum(w_ids, output_count - 1)
        fetch_ahead(w, kept, first, share, input_count, paired, block_inputs, ahead_bytes)
    wait_for_earlier(early)
    if paired:
        total = paired_sum(
            x, x_at, row_there, w, weight_scales, minima, w_ids, output_there, first, last,
            input_count, block_rows, block_outputs, block_inputs,
        )  # fmt: skip
    else:
        total = dense_sum(
            x, x_at, row_there, w, w_ids * input_count, output_there, first, last,
            input_count, block_rows, block_outputs, block_inputs, early,
        ).to(tl.float32)  # fmt: skip
    there = output_there[:, None] & row_there[None, :]
    finished = True
    if splits > 1:
        place = row_ids.to(tl.int64)[None, :] * output_count + output_ids[:, None]
        size = rows * output_count  # few: the plan bounds it
        counter = counters + tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
        total, finished = _add_up_last(total, partials + place, there, size, counter, split, splits)
    if finished:
        if weight_scales is not None and not paired:
            scale = tl.load(weight_scales + output_ids, mask=output_there, other=0.0)
            total *= scale[:, None]
        if row_scales is not None:
            scale = tl.load(row_scales + row_ids, mask=row_there, other=0.0)
            total *= scale[None, :]
        if bias is not None:
            total += tl.load(bias + output_ids, mask=output_there, other=0.0)[:, None]
        places = out + row_ids.to(tl.int64)[None, :] * out_stride + output_ids[:, None]
        tl.store(places, total.to(out.dtype.element_ty), mask=there)


@triton.jit
def _add_up_last(total, places, there, size, counter, split, splits: tl.constexpr):
    """Leave a split's sums; the last of a tile to come gets the sums of all, and True. `places`: of
    the first split's sums, `size` apart from the next one's."""
    tl.store(places + split * size, total, mask=there)
    tl.debug_barrier()  # the whole program has written before it says so
    finished = tl.atomic_add(counter, 1, sem="acq_rel") == splits - 1
    if finished:
        total = tl.zeros_like(total)
        for other in range(splits):
            # past the nearest cache, which does not see what others wrote
            total += tl.load(places + other * size, mask=there, other=0.0, cache_modifier=".cg")
        tl.store(counter, 0)
    return total, finished
