"""Attention of sequences with few rows in the step: decode, and guesses that are checked.

All rows and query heads of a key head are one product, as the keys are read once for all of them.
A context is cut into parts of equal length, a program each; where there are several, a second
kernel puts them together. Knows the paged cache of one layer; knows no prompts.
"""

import triton
import triton.language as tl

from baton.engine.cuda.kernels.attention_softmax import as_multiplied, fold_columns, nothing_seen
from baton.engine.cuda.kernels.launch import ask_for, begin, let_next_start, wait_for_earlier

# Tokens of a part: fewer are not worth a program. 64 tokens of 128 numbers are 16 KiB of keys.
PART_TOKENS_MIN = 64
# Parts put together at once.
COMBINED = 16
COMBINE_WARPS = 1

_PART_TOKENS_MIN = tl.constexpr(PART_TOKENS_MIN)
_NEVER = tl.constexpr(float("-inf"))


@triton.jit(
    do_not_specialize=["table_width", "rows_bound", "splits"],
    do_not_specialize_on_alignment=["query_starts", "context_lengths", "block_tables"],
)
def attend_few(
    q,
    keys,
    values,
    key_scales,
    value_scales,
    query_starts,
    context_lengths,
    block_tables,
    out,
    sums,
    weights,
    scale,
    table_width,
    rows_bound,
    splits,
    heads: tl.constexpr,
    kv_heads: tl.constexpr,
    head_size: tl.constexpr,
    block_size: tl.constexpr,
    window: tl.constexpr,
    split: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_d: tl.constexpr,
    early: tl.constexpr,
):
    """Grid (kv_heads, sequences, splits), for sequences of at most `rows_bound` rows. Without
    `split` the result goes to `out` at once."""
    let_next_start(early)
    head, sequence, part = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    table = block_tables + sequence * table_width
    if early:
        ask_for(query_starts + sequence + tl.arange(0, 2))
        ask_for(context_lengths + sequence + tl.arange(0, 1))
        lines = tl.arange(0, 32)
        ask_for(table + tl.minimum(lines * 32, table_width - 1))
    wait_for_earlier(early)
    first_row = tl.load(query_starts + sequence)
    rows = tl.load(query_starts + sequence + 1) - first_row
    context = tl.load(context_lengths + sequence)  # beside them, not after
    if (rows == 0) | (rows > rows_bound) | (context == 0):
        return
    oldest, tokens = _parts(context, rows, splits, window, block_n)
    first = oldest + part * tokens
    end = tl.minimum(first + tokens, context)
    if first >= end:
        return
    group: tl.constexpr = heads // kv_heads
    member = tl.arange(0, block_m)  # row of the sequence, then head of the group
    dims = tl.arange(0, block_d)
    queries = (first_row.to(tl.int64) + member // group) * heads + head * group + member % group
    real = member < rows * group
    inside = real[:, None] & (dims < head_size)[None, :]
    at = queries[:, None] * head_size + dims[None, :]
    x = as_multiplied(tl.load(q + at, mask=inside, other=0.0), keys.dtype.element_ty)
    positions = tl.minimum(context - rows + member // group, context - 1)
    cache = (keys, values, key_scales, value_scales)
    total, highest, weight = fold_columns(
        nothing_seen(block_m, block_d), x, positions, table, cache, head, scale, first, end,
        kv_heads, head_size, block_size, window, block_n, True,
    )  # fmt: skip
    if split:
        places = (queries + (sequence * rows_bound - first_row) * heads) * splits + part
        to = places[:, None] * head_size + dims[None, :]
        tl.store(sums + to, total, mask=inside)
        tl.store(weights + places * 2, highest, mask=real)
        tl.store(weights + places * 2 + 1, weight, mask=real)
    else:
        tl.store(out + at, (total / weight[:, None]).to(out.dtype.element_ty), mask=inside)


@triton.jit(
    do_not_specialize=["splits"],
    do_not_specialize_on_alignment=["query_starts", "context_lengths"],
)
def combine_parts(
    query_starts,
    context_lengths,
    out,
    sums,
    weights,
    splits,
    heads: tl.constexpr,
    head_size: tl.constexpr,
    window: tl.constexpr,
    block_n: tl.constexpr,
    block_d: tl.constexpr,
    combined: tl.constexpr,
    early: tl.constexpr,
):
    """Grid (heads, sequences, rows_bound of the parts): one row and head a program."""
    begin(early)
    head, sequence, row = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    rows_bound = tl.num_programs(2)
    first_row = tl.load(query_starts + sequence)
    rows = tl.load(query_starts + sequence + 1) - first_row
    context = tl.load(context_lengths + sequence)  # beside them, not after
    if (row >= rows) | (rows > rows_bound) | (context == 0):
        return
    oldest, tokens = _parts(context, rows, splits, window, block_n)
    parts = tl.cdiv(context - oldest, tokens)
    place = ((sequence * rows_bound + row) * heads + head) * splits
    dims = tl.arange(0, block_d)
    total = tl.zeros([block_d], tl.float32)
    highest = tl.full([1], _NEVER, tl.float32)
    weight = tl.zeros([1], tl.float32)
    for chunk in range(0, parts, combined):
        part = chunk + tl.arange(0, combined)
        places = place + part
        high = tl.load(weights + places * 2, mask=part < parts, other=_NEVER)
        higher = tl.maximum(highest, tl.max(high, 0))
        # with a window, a row may see nothing of the first parts
        reference = tl.where(higher == _NEVER, 0.0, higher)
        share = tl.exp2(high - reference)
        kept = tl.exp2(highest - reference)
        heavy = tl.load(weights + places * 2 + 1, mask=part < parts, other=0.0)
        weight = weight * kept + tl.sum(share * heavy, 0)
        inside = (part < parts)[:, None] & (dims < head_size)[None, :]
        at = places[:, None] * head_size + dims[None, :]
        values = tl.load(sums + at, mask=inside, other=0.0)
        total = total * kept + tl.sum(share[:, None] * values, 0)
        highest = higher
    to = out + ((first_row + row).to(tl.int64) * heads + head) * head_size + dims
    tl.store(to, (total / weight).to(out.dtype.element_ty), mask=dims < head_size)


@triton.jit
def _parts(context, rows, splits, window: tl.constexpr, block_n: tl.constexpr):
    """The first column that any row sees, and the tokens of a part."""
    oldest = tl.maximum(context - rows - window + 1, 0) if window > 0 else context * 0
    tokens = tl.maximum(tl.cdiv(context - oldest, splits), _PART_TOKENS_MIN)
    return oldest, tl.cdiv(tokens, block_n) * block_n
