"""From the fused projection to attention's inputs: norm and turn q and k, put k and v away.

Knows positions and slots of the paged cache; knows no sequences. Halves are turned as in
`models/rotary`: element i with element i + head_size / 2.
"""

import torch
import triton
import triton.language as tl

from baton.engine.cuda.kernels.launch import begin, launch
from baton.engine.cuda.kernels.rounding import in_units, largest_of, worth_of

# Heads of one program: 8 heads of 128 are 8 numbers for each of 128 threads.
HEADS = 8
WARPS = 4

KvScales = tuple[torch.Tensor, torch.Tensor]
"""Of keys and of values, each [blocks, block_size, kv_heads] float32: what one unit is worth."""


def rotate_and_store(
    qkv: torch.Tensor,
    positions: torch.Tensor,
    cos_sin: torch.Tensor,
    write_slots: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    kv_scales: KvScales | None,
    q_out: torch.Tensor,
    qk_norm: torch.Tensor | None,
    eps: float,
) -> None:
    """Every row's queries go to q_out, its key and value into the cache at its slot.

    qkv [T, (heads + 2 * kv_heads) * head_size]; positions [T] int32, those of padding rows within
    the table too; cos_sin [context, head_size] float32, cosines first; write_slots [T] int32 (block
    * block_size + offset), negative: nothing is written; keys, values [blocks, block_size,
    kv_heads, head_size], with `kv_scales` where they are int8 or float8_e4m3fn; q_out [T, heads,
    head_size]; qk_norm [2, head_size]: the norm's weight of q heads and of k heads. All contiguous.
    """
    rows = len(qkv)
    _, _, kv_heads, head_size = keys.shape
    heads = qkv.shape[1] // head_size - 2 * kv_heads
    assert (keys.element_size() == 1) == (kv_scales is not None)
    if rows == 0:
        return
    key_scales, value_scales = kv_scales or (None, None)
    tiles = triton.cdiv(heads, HEADS) + 2 * triton.cdiv(kv_heads, HEADS)
    launch(
        _rotate_and_store,
        (rows, tiles),
        qkv,
        positions,
        cos_sin,
        write_slots,
        keys,
        values,
        key_scales,
        value_scales,
        q_out,
        qk_norm,
        eps,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        block_heads=HEADS,
        block_half=triton.next_power_of_2(head_size // 2),
        num_warps=WARPS,
    )


@triton.jit(do_not_specialize_on_alignment=["positions", "write_slots"])
def _rotate_and_store(
    qkv,
    positions,
    cos_sin,
    write_slots,
    keys,
    values,
    key_scales,
    value_scales,
    q_out,
    qk_norm,
    eps,
    heads: tl.constexpr,
    kv_heads: tl.constexpr,
    head_size: tl.constexpr,
    block_heads: tl.constexpr,
    block_half: tl.constexpr,
    early: tl.constexpr,
):
    """Some heads of one row a program: all of them queries, or keys, or values."""
    begin(early)
    half: tl.constexpr = head_size // 2
    q_tiles: tl.constexpr = (heads + block_heads - 1) // block_heads
    kv_tiles: tl.constexpr = (kv_heads + block_heads - 1) // block_heads
    row, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    side = tl.where(tile < q_tiles, 0, tl.where(tile < q_tiles + kv_tiles, 1, 2))
    first = (tile - tl.where(side == 0, 0, q_tiles + (side - 1) * kv_tiles)) * block_heads
    head = first + tl.arange(0, block_heads)[:, None]
    column = tl.arange(0, block_half)[None, :]
    present = head < tl.where(side == 0, heads, kv_heads)
    inside = present & (column < half)
    skipped = tl.where(side == 0, 0, heads + (side - 1) * kv_heads)  # heads of other sides
    source = qkv + (row * (heads + 2 * kv_heads) + skipped + head) * head_size + column
    low = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(source + half, mask=inside, other=0.0).to(tl.float32)
    if side < 2:
        if qk_norm is not None:
            low, high = _normed(low, high, qk_norm + side * head_size, column, eps, half)
        table = cos_sin + tl.load(positions + row).to(tl.int64) * head_size + column
        cos = tl.load(table, mask=column < half, other=0.0)
        sin = tl.load(table + half, mask=column < half, other=0.0)
        low, high = low * cos - high * sin, high * cos + low * sin
    if side == 0:
        to = q_out + (row * heads + head) * head_size + column
        tl.store(to, low.to(q_out.dtype.element_ty), mask=inside)
        tl.store(to + half, high.to(q_out.dtype.element_ty), mask=inside)
    else:
        slot = tl.load(write_slots + row).to(tl.int64)
        vectors = slot * kv_heads + head  # counted from the start of the cache
        if slot >= 0:
            if side == 1:
                _put(keys, key_scales, vectors, low, high, column, present, half)
            else:
                _put(values, value_scales, vectors, low, high, column, present, half)


@triton.jit
def _normed(low, high, weight, column, eps, half: tl.constexpr):
    """Both halves of heads [H, half], divided by the head's root mean square, weighted."""
    squares = tl.sum(low * low + high * high, 1) / (2 * half)
    shrink = tl.rsqrt(squares + eps)[:, None]
    low *= shrink * tl.load(weight + column, mask=column < half, other=0.0).to(tl.float32)
    high *= shrink * tl.load(weight + half + column, mask=column < half, other=0.0).to(tl.float32)
    return low, high


@triton.jit
def _put(cache, scales, vectors, low, high, column, present, half: tl.constexpr):
    """Halves of heads [H, half] into the cache, rounded where it holds 8-bit numbers."""
    inside = present & (column < half)
    to = cache + vectors * (2 * half) + column
    if scales is not None:
        sides = largest_of(low, 1), largest_of(high, 1)
        largest = tl.maximum(sides[0], sides[1], propagate_nan=tl.PropagateNan.ALL)[:, None]
        tl.store(scales + vectors, worth_of(largest, cache.dtype.element_ty), mask=present)
        low = in_units(low, largest, cache.dtype.element_ty)
        high = in_units(high, largest, cache.dtype.element_ty)
    tl.store(to, low.to(cache.dtype.element_ty), mask=inside)
    tl.store(to + half, high.to(cache.dtype.element_ty), mask=inside)
