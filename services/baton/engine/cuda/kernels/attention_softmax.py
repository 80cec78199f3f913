"""The running softmax of attention, over columns of the paged cache: what both kernels share.

A row keeps its highest score, the sum of its weights and the sum of weighted values so far; scores
are logarithms to base 2. Knows one key head of one sequence; knows nothing of how rows are chosen.
"""

import triton
import triton.language as tl

_NEVER = tl.constexpr(float("-inf"))


@triton.jit
def fold_columns(
    state,
    q,
    positions,
    table,
    cache,
    head,
    scale,
    first,
    end,
    kv_heads: tl.constexpr,
    head_size: tl.constexpr,
    block_size: tl.constexpr,
    window: tl.constexpr,
    block_n: tl.constexpr,
    masked: tl.constexpr,
):
    """`state` after columns first .. end - 1 of the context.

    q [M, D], positions [M] of its rows, `table` the sequence's blocks, `cache` keys and values and
    the scales of both, `scale` of scores in base 2. Unmasked: every row sees every column, and
    their number is a multiple of block_n. A window of 0 is none.
    """
    total, highest, weight = state
    keys, values, key_scales, value_scales = cache
    for column in range(first, end, block_n):
        columns = column + tl.arange(0, block_n)
        inside = columns < end
        if masked:
            block = tl.load(table + columns // block_size, mask=inside, other=0)
        else:
            block = tl.load(table + columns // block_size)
        slots = block.to(tl.int64) * block_size + columns % block_size
        vectors = slots * kv_heads + head  # [N] counted from the start of the cache
        k = _load_vectors(keys, vectors, inside, head_size, q.shape[1], masked)
        scores = tl.dot(q, tl.trans(_widened(k, q.dtype)), input_precision="ieee") * scale
        if key_scales is not None:
            scores *= _load_scales(key_scales, vectors, inside, masked)[None, :]
        if masked:
            seen = inside[None, :] & (columns[None, :] <= positions[:, None])
            if window > 0:
                seen &= columns[None, :] > positions[:, None] - window
            scores = tl.where(seen, scores, _NEVER)
        higher = tl.maximum(highest, tl.max(scores, 1))
        # a row that has seen nothing yet has no highest score to subtract
        reference = tl.where(higher == _NEVER, 0.0, higher)
        weights = tl.exp2(scores - reference[:, None])
        kept = tl.exp2(highest - reference)
        weight = weight * kept + tl.sum(weights, 1)
        highest = higher
        v = _load_vectors(values, vectors, inside, head_size, q.shape[1], masked)
        if value_scales is not None:
            weights *= _load_scales(value_scales, vectors, inside, masked)[None, :]
        total = tl.dot(
            weights.to(q.dtype), _widened(v, q.dtype), total * kept[:, None], input_precision="ieee"
        )
    return total, highest, weight


@triton.jit
def as_multiplied(q, cached: tl.constexpr):
    """Queries in the type in which keys and weights are multiplied, too, given what the cache
    holds."""
    # 8 bits become float16 in half the instructions that bfloat16 takes; queries fit either
    eight_bits: tl.constexpr = cached.primitive_bitwidth == 8
    return q.to(tl.float16) if eight_bits and q.dtype == tl.bfloat16 else q


@triton.jit
def nothing_seen(block_m: tl.constexpr, block_d: tl.constexpr):
    """The state before the first column: sums [M, D], highest scores [M], weights [M]."""
    total = tl.zeros([block_m, block_d], tl.float32)
    highest = tl.full([block_m], _NEVER, tl.float32)
    weight = tl.zeros([block_m], tl.float32)
    return total, highest, weight


@triton.jit
def _load_vectors(
    cache,
    vectors,
    inside,
    head_size: tl.constexpr,
    block_d: tl.constexpr,
    masked: tl.constexpr,
):
    """[N] places -> [N, block_d]; zero where not inside (what lies there may be NaN)."""
    dims = tl.arange(0, block_d)
    at = cache + vectors[:, None] * head_size + dims[None, :]
    if masked:
        if head_size == block_d:
            x = tl.load(at, mask=inside[:, None], other=0.0)
        else:
            x = tl.load(at, mask=inside[:, None] & (dims < head_size)[None, :], other=0.0)
    elif head_size == block_d:
        x = tl.load(at)
    else:
        x = tl.load(at, mask=(dims < head_size)[None, :], other=0.0)
    return x


@triton.jit
def _widened(x, dtype: tl.constexpr):
    """Numbers of the cache in the type of the product."""
    if x.dtype == tl.int8 and dtype == tl.float16:
        # level + 128 as the last bits of 1024 in float16: cheaper than the conversion instruction
        bits = (x.to(tl.uint8, bitcast=True) ^ 0x80).to(tl.uint16) | 0x6400
        wide = bits.to(tl.float16, bitcast=True) - 1152.0
    else:
        wide = x.to(dtype)
    return wide


@triton.jit
def _load_scales(scales, vectors, inside, masked: tl.constexpr):
    """[N] places -> [N] float32; zero where not inside."""
    at = scales + vectors
    return tl.load(at, mask=inside, other=0.0) if masked else tl.load(at)
