"""The inner loops of all products: one tile of outputs for some rows, over a stretch of the inputs.

Weights are the left operand: their tiles fill Hopper's matrix instruction however few rows there
are, and levels of 8 or 4 bits are widened in registers on the way to it. Knows tiles; knows nothing
of which rows and weights they are.
"""

import triton
import triton.language as tl

PAIRED_CHANNELS = tl.constexpr(64)
"""Channels of which one byte holds two, 32 apart; two groups."""

GROUP = tl.constexpr(32)
"""Channels of a group of 4-bit weights."""

LINE_BYTES = tl.constexpr(128)
"""What the second cache fetches at once."""

FP8_TERMS = tl.constexpr(128)
"""Products of 8-bit floats that Hopper adds up by itself, in some 14 bits, before they
join a float32 sum. No loop step of theirs is shorter."""


@triton.jit
def fetch_ahead(
    w,
    w_ids,  # [block_outputs] int64: number of each output, all of them there
    first,
    steps: tl.constexpr,
    input_count: tl.constexpr,
    paired: tl.constexpr,
    block_inputs: tl.constexpr,
    ahead_bytes: tl.constexpr,  # of each output's weights
):
    """Have the beginning of a tile's weights on their way from memory: of `steps` loop steps, the
    first of them `first`. Weights are the one operand that no kernel writes."""
    item: tl.constexpr = w.dtype.element_ty.primitive_bitwidth // 8
    row_pairs: tl.constexpr = (input_count + PAIRED_CHANNELS - 1) // PAIRED_CHANNELS
    pitch: tl.constexpr = row_pairs * GROUP if paired else input_count
    step: tl.constexpr = block_inputs // PAIRED_CHANNELS * GROUP if paired else block_inputs
    line: tl.constexpr = LINE_BYTES // item
    lines = tl.arange(0, ahead_bytes // LINE_BYTES) * line
    # an address twice is one fetch, one behind the end would be none of ours
    lines = tl.minimum(first * step + tl.minimum(lines, steps * step - 1), pitch - 1)
    addresses = w + w_ids[:, None] * pitch + lines[None, :]
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.b32 $0, 0;",
        "=r,l",
        [addresses.to(tl.uint64)],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )


@triton.jit
def dense_sum(
    x,
    x_at,  # [block_rows] int64: where each row begins
    x_there,  # [block_rows] whether the row is there
    w,
    w_at,  # [block_outputs] int64: where each output's weights begin
    w_there,  # [block_outputs]
    first,
    last,
    input_count: tl.constexpr,
    block_rows: tl.constexpr,
    block_outputs: tl.constexpr,
    block_inputs: tl.constexpr,
    early: tl.constexpr,
):
    """Steps first..last -> [block_outputs, block_rows]: int32 of two int8 operands, else float32.
    Weights of another type than the rows become the rows' type, which holds their levels exactly.
    """
    if x.dtype.element_ty == tl.int8:
        total = tl.zeros((block_outputs, block_rows), tl.int32)
    else:
        total = tl.zeros((block_outputs, block_rows), tl.float32)
    channels = tl.arange(0, block_inputs)
    for step in range(first, last):
        at = step * block_inputs + channels
        if input_count % block_inputs == 0:
            w_mask = w_there[:, None]
            x_mask = x_there[None, :]
        else:
            w_mask = w_there[:, None] & (at < input_count)[None, :]
            x_mask = x_there[None, :] & (at < input_count)[:, None]
        weights = tl.load(w + w_at[:, None] + at[None, :], mask=w_mask, other=0.0)
        rows = tl.load(x + x_at[None, :] + at[:, None], mask=x_mask, other=0.0)
        total = tl.dot(
            weights.to(rows.dtype),
            rows,
            total,
            input_precision="ieee",
            max_num_imprecise_acc=FP8_TERMS,
            out_dtype=total.dtype,
        )
        if early and weights.dtype != rows.dtype:
            total = _waited_for(total)
    return total


@triton.jit
def _waited_for(total):
    """The same, once the matrix unit is done: ptxas before CUDA 13.3 gives the registers of widened
    weights to others while products under way still read them."""
    return tl.inline_asm_elementwise(
        "mov.b32 $0, $1;", "=r,r", [total], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def paired_sum(
    x,
    x_at,
    x_there,
    w,
    scales,
    minima,
    w_ids,  # [block_outputs] int64: number of each output among all of `w`
    w_there,
    first,
    last,
    input_count: tl.constexpr,
    block_rows: tl.constexpr,
    block_outputs: tl.constexpr,
    block_inputs: tl.constexpr,
):
    """As `dense_sum`, of 4-bit levels: byte j of 32 holds channel j in its low half and channel
    j + 32 in its high one, each of a group with a scale and a minimum."""
    pair_count: tl.constexpr = block_inputs // PAIRED_CHANNELS
    row_pairs: tl.constexpr = (input_count + PAIRED_CHANNELS - 1) // PAIRED_CHANNELS
    total = tl.zeros((block_outputs, block_rows), tl.float32)
    pairs = tl.arange(0, pair_count)
    lanes = tl.arange(0, GROUP)
    places = tl.arange(0, pair_count * GROUP)
    near = (places // GROUP) * PAIRED_CHANNELS + places % GROUP
    for step in range(first, last):
        pair = step * pair_count + pairs
        there = w_there[:, None] & (pair < row_pairs)[None, :]
        pair_at = w_ids[:, None] * row_pairs + pair[None, :]  # [block_outputs, pair_count]
        packed = tl.load(
            w + pair_at[:, :, None] * GROUP + lanes[None, None, :], mask=there[:, :, None], other=0
        )
        at = step * block_inputs + near
        for half in tl.static_range(2):
            scale = tl.load(scales + pair_at * 2 + half, mask=there, other=0.0).to(tl.float32)
            minimum = tl.load(minima + pair_at * 2 + half, mask=there, other=0.0).to(tl.float32)
            levels = ((packed >> (4 * half)) & 0xF).to(tl.float32)
            weights = levels * scale[:, :, None] + minimum[:, :, None]
            channel = at + half * GROUP
            rows = tl.load(
                x + x_at[None, :] + channel[:, None],
                mask=x_there[None, :] & (channel < input_count)[:, None],
                other=0.0,
            )
            flat = tl.reshape(weights.to(rows.dtype), (block_outputs, pair_count * GROUP))
            total = tl.dot(flat, rows, total, input_precision="ieee")
    return total
