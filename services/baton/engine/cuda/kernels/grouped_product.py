"""The products of a mixture of experts: tile by tile, rows of one expert with that expert's weight.

Knows the tables of `grouped_route` and packed weights; knows nothing of what lies between two
products.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from baton.engine.cuda.kernels.grouped_route import NOBODY, Routes, tiles_max
from baton.engine.cuda.kernels.launch import begin, launch
from baton.engine.cuda.kernels.matmul_product import Factors
from baton.engine.cuda.kernels.matmul_tiles import dense_sum, paired_sum

TILE_ROWS = (16, 64, 128)
"""Of a plan: from the smallest matrix tensor cores multiply to what keeps them busy."""

LONE_SHARE = 4
"""While pairs are fewer than a fourth of the experts, hardly two of them share one: each gets a
tile of its own, and no table has to be made."""

COLUMNS_AT_ONCE = 1_024


@dataclass(frozen=True, slots=True)
class GroupedPlan:
    tile_rows: int
    block_outputs: int
    block_inputs: int
    warps: int
    stages: int
    lone: bool  # each pair has a tile of its own


def plan_grouped(pairs: int, experts: int, *, weight_bits: int) -> GroupedPlan:
    """A pure function of the shape. Few rows for each expert: reading weights bounds it."""
    small, middle, large = TILE_ROWS
    lone, each = pairs * LONE_SHARE <= experts, pairs // experts
    if lone or each <= small:
        return GroupedPlan(small, 64, 2048 // max(weight_bits, 8), 4, 4, lone)
    if each <= middle:
        return GroupedPlan(middle, 128, 1024 // max(weight_bits, 8), 8, 3, lone)
    return GroupedPlan(large, 128, 1024 // max(weight_bits, 8), 8, 3, lone)


def multiply_grouped(
    x: torch.Tensor,
    weight: torch.Tensor,
    factors: Factors,
    out: torch.Tensor,
    routes: Routes,
    *,
    plan: GroupedPlan,
    rows_of_pairs: int,
    shared: bool,
) -> None:
    """For each pair its row of x times its expert's weight -> its row of out [pairs, outputs].

    `rows_of_pairs`: pairs that read one row of x: the experts of a token, or 1 where x has a row
    for each pair. `shared`: outputs are multiplied by the pair's share. Scales of `factors` are
    those of all experts, one after the other; `out` of padding rows is left as it is.
    """
    pairs, outputs = out.shape
    experts = len(routes.counts)
    tiles = pairs if plan.lone else tiles_max(pairs, experts, plan.tile_rows)
    launch(
        _multiply_grouped,
        (triton.cdiv(outputs, plan.block_outputs), tiles),
        x,
        weight,
        factors.row_scales,
        factors.weight_scales,
        factors.minima,
        routes.shares if shared else None,
        out,
        routes.chosen if plan.lone else routes.order,
        routes.tile_experts,
        x.stride(0),
        output_count=outputs,
        input_count=x.shape[1],
        rows_of_pairs=rows_of_pairs,
        lone=plan.lone,
        paired=factors.minima is not None,
        block_rows=plan.tile_rows,
        block_outputs=plan.block_outputs,
        block_inputs=plan.block_inputs,
        num_warps=plan.warps,
        num_stages=plan.stages,
    )


def add_up(pairs_out: torch.Tensor, slots: torch.Tensor | None, out: torch.Tensor) -> None:
    """pairs_out [T * experts per token, hidden] -> out [T, hidden], summed over a token's pairs;
    zeros for padding rows, whose slot is negative."""
    rows, columns = out.shape
    block = min(COLUMNS_AT_ONCE, triton.next_power_of_2(columns))
    launch(
        _add_up,
        (rows, triton.cdiv(columns, block)),
        pairs_out,
        slots,
        out,
        columns=columns,
        per_token=len(pairs_out) // rows,
        block=block,
    )


@triton.jit
def _multiply_grouped(
    x,
    w,
    row_scales,
    weight_scales,
    minima,
    shares,
    out,
    order,
    tile_experts,
    x_stride,
    output_count: tl.constexpr,
    input_count: tl.constexpr,
    rows_of_pairs: tl.constexpr,
    lone: tl.constexpr,
    paired: tl.constexpr,
    block_rows: tl.constexpr,
    block_outputs: tl.constexpr,
    block_inputs: tl.constexpr,
    early: tl.constexpr,
):
    begin(early)
    steps: tl.constexpr = (input_count + block_inputs - 1) // block_inputs
    tile = tl.program_id(1)
    places = tl.arange(0, block_rows)
    if lone:
        expert = tl.load(order + tile)
        pair = tl.where(places == 0, tile, NOBODY)
    else:
        expert = tl.load(tile_experts + tile)
        pair = tl.load(order + tile * block_rows + places)  # read only of a tile in use
    if expert != NOBODY:
        row_there = pair != NOBODY
        pair = tl.where(row_there, pair, 0)
        row = pair // rows_of_pairs
        output_ids = tl.program_id(0) * block_outputs + tl.arange(0, block_outputs)
        output_there = output_ids < output_count
        x_at = row.to(tl.int64) * x_stride
        w_ids = expert.to(tl.int64) * output_count + output_ids
        if paired:
            total = paired_sum(
                x, x_at, row_there, w, weight_scales, minima, w_ids, output_there, 0, steps,
                input_count, block_rows, block_outputs, block_inputs,
            )  # fmt: skip
        else:
            total = dense_sum(
                x, x_at, row_there, w, w_ids * input_count, output_there, 0, steps,
                input_count, block_rows, block_outputs, block_inputs, early,
            ).to(tl.float32)  # fmt: skip
        if weight_scales is not None and not paired:
            total *= tl.load(weight_scales + w_ids, mask=output_there, other=0.0)[:, None]
        if row_scales is not None:
            total *= tl.load(row_scales + row, mask=row_there, other=0.0)[None, :]
        if shares is not None:
            total *= tl.load(shares + pair, mask=row_there, other=0.0)[None, :]
        at = out + pair.to(tl.int64)[None, :] * output_count + output_ids[:, None]
        there = output_there[:, None] & row_there[None, :]
        tl.store(at, total.to(out.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize_on_alignment=["slots"])  # they lie among a step's other numbers
def _add_up(
    pairs_out,
    slots,
    out,
    columns: tl.constexpr,
    per_token: tl.constexpr,
    block: tl.constexpr,
    early: tl.constexpr,
):
    begin(early)
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * block + tl.arange(0, block)
    inside = column < columns
    read = inside
    if slots is not None:
        read = column < tl.where(tl.load(slots + row) >= 0, columns, 0)
    total = tl.zeros((block,), tl.float32)
    for place in tl.static_range(per_token):
        at = (row * per_token + place) * columns + column
        total += tl.load(pairs_out + at, mask=read, other=0.0).to(tl.float32)
    tl.store(out + row * columns + column, total.to(out.dtype.element_ty), mask=inside)
