"""Attention of longer pieces of prompts, with any prefix in the cache before them.

Rows are cut into tiles that never mix sequences; a tile's query heads of one key head are one
product. Knows the paged cache of one layer; knows nothing of decode.
"""

import triton
import triton.language as tl

from baton.engine.cuda.kernels.attention_softmax import as_multiplied, fold_columns, nothing_seen
from baton.engine.cuda.kernels.launch import begin


@triton.jit(
    do_not_specialize=["table_width", "sequences"],
    do_not_specialize_on_alignment=["query_starts", "context_lengths", "block_tables"],
)
def attend_tiles(
    q,
    keys,
    values,
    key_scales,
    value_scales,
    query_starts,
    context_lengths,
    block_tables,
    out,
    scale,
    table_width,
    sequences,
    heads: tl.constexpr,
    kv_heads: tl.constexpr,
    head_size: tl.constexpr,
    block_size: tl.constexpr,
    window: tl.constexpr,
    rows_few: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_d: tl.constexpr,
    early: tl.constexpr,
):
    """Grid (kv_heads, tiles). Sequences of at most `rows_few` rows are the other kernel's."""
    begin(early)
    group: tl.constexpr = heads // kv_heads
    tile_rows: tl.constexpr = block_m // group
    head = tl.program_id(0)
    tile = tl.num_programs(1) - 1 - tl.program_id(1)  # the longest work first
    sequence = _owner(query_starts, tile, sequences, tile_rows)
    first_row = tl.load(query_starts + sequence)
    rows = tl.load(query_starts + sequence + 1) - first_row
    row = (tile - first_row // tile_rows - sequence) * tile_rows
    if (rows <= rows_few) | (row >= rows):
        return
    context = tl.load(context_lengths + sequence)
    member = tl.arange(0, block_m)  # row of the tile, then head of the group
    dims = tl.arange(0, block_d)
    mine = row + member // group
    queries = (first_row.to(tl.int64) + mine) * heads + head * group + member % group
    real = (member < tile_rows * group) & (mine < rows)
    inside = real[:, None] & (dims < head_size)[None, :]
    at = queries[:, None] * head_size + dims[None, :]
    x = as_multiplied(tl.load(q + at, mask=inside, other=0.0), keys.dtype.element_ty)
    cache = (keys, values, key_scales, value_scales)
    table = block_tables + sequence.to(tl.int64) * table_width
    eldest = context - rows + row
    end = tl.minimum(eldest + tile_rows, context)
    first, open_first, open_end = _columns(eldest, end, window, block_n)
    positions = tl.minimum(context - rows + mine, end - 1)
    state = nothing_seen(block_m, block_d)
    if window > 0:
        state = fold_columns(
            state, x, positions, table, cache, head, scale, first, tl.minimum(open_first, end),
            kv_heads, head_size, block_size, window, block_n, True,
        )  # fmt: skip
    state = fold_columns(
        state, x, positions, table, cache, head, scale, open_first, open_end,
        kv_heads, head_size, block_size, window, block_n, False,
    )  # fmt: skip
    state = fold_columns(
        state, x, positions, table, cache, head, scale, open_end, end,
        kv_heads, head_size, block_size, window, block_n, True,
    )  # fmt: skip
    total, _, weight = state
    tl.store(out + at, (total / weight[:, None]).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _owner(query_starts, tile, sequences, tile_rows: tl.constexpr):
    """The last sequence whose first tile is `tile` or before; no two sequences share a tile."""
    low, high = 0, sequences
    while low < high:
        middle = (low + high) // 2
        if tl.load(query_starts + middle) // tile_rows + middle <= tile:
            low = middle + 1
        else:
            high = middle
    return low - 1


@triton.jit
def _columns(eldest, end, window: tl.constexpr, block_n: tl.constexpr):
    """The first column that rows eldest .. end - 1 see any of; from where to where all see all, a
    whole number of blocks."""
    if window > 0:
        first = tl.maximum(eldest - window + 1, 0)
        edge = tl.maximum(end - window - first, 0)  # columns that the youngest row sees not
        open_first = first + tl.cdiv(edge, block_n) * block_n
    else:
        first = eldest * 0
        open_first = first
    return (
        first,
        open_first,
        open_first + tl.maximum(eldest + 1 - open_first, 0) // block_n * block_n,
    )
