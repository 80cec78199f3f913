"""The least logit that temperature, min_p, top_k and top_p leave of a row, as `engine.filters`.

No sort: the border is found by bisection over the bits of float32 numbers, among the few tokens
near the likeliest, which are collected first; where these are too few, among all. Knows one row.
"""

import triton
import triton.language as tl

_NEVER = tl.constexpr(float("-inf"))
# As in `engine.filters`: what filters keep nearly always lies this near the likeliest token.
_LIKELY_NATS = tl.constexpr(12.0)
_MAGNITUDE = tl.constexpr(0x7FFFFFFF)  # all bits of a number but its sign


@triton.jit
def filter_border(
    row, candidates, vocab, top, temperature, top_k, top_p, min_p, block: tl.constexpr
):
    """The least value after the temperature that stays; -inf: all stay.

    row: pointer to logits [vocab], `top` the highest after the temperature; candidates: pointer to
    scratch memory [vocab] float32.
    """
    border = tl.full([], _NEVER, tl.float32)
    if min_p > 0.0:
        # through float64: the device's float32 logarithm is not the CPU's
        border = top + tl.log(min_p.to(tl.float64)).to(tl.float32)
    by_count = (top_k > 0) & (top_k < vocab)
    by_mass = top_p < 1.0
    if by_count | by_mass:
        cut = tl.maximum(border, top - _LIKELY_NATS)
        count, mass = _collect(row, candidates, vocab, top, temperature, cut, border, block)
        near = _mass_from(candidates, count, top, cut, block)
        if (by_count & (count < top_k)) | (by_mass & (near < mass * top_p)):
            cut = border
            count, mass = _collect(row, candidates, vocab, top, temperature, cut, border, block)
        lowest = tl.maximum(cut, -3.4028234663852886e38)
        if by_count & (count >= top_k):
            border = _bisect(candidates, count, top, lowest, top_k.to(tl.float64), False, block)
            mass = _mass_from(candidates, count, top, border, block)
        if by_mass:
            goal = mass * top_p
            border = tl.maximum(border, _bisect(candidates, count, top, lowest, goal, True, block))
    return border


@triton.jit
def scaled(logits, temperature):
    """logits / temperature, rounded as the CPU rounds; NaN becomes -inf."""
    x = tl.div_rn(logits, tl.broadcast_to(temperature, logits.shape))
    return tl.where(x == x, x, _NEVER)


@triton.jit
def _collect(row, candidates, vocab, top, temperature, cut, border, block: tl.constexpr):
    """Values from `cut` go to `candidates`; their number, and the mass of all from `border`."""
    count = tl.full([], 0, tl.int32)
    mass = tl.full([], 0.0, tl.float64)
    tl.debug_barrier()  # no thread still reads what is overwritten
    for start in range(0, vocab, block):
        ids = start + tl.arange(0, block)
        x = tl.load(row + ids, mask=ids < vocab, other=_NEVER).to(tl.float32)
        x = scaled(x, temperature)
        kept = (x >= cut) & (x > _NEVER)
        places = count + tl.cumsum(kept.to(tl.int32), 0) - 1
        tl.store(candidates + places, x, mask=kept)
        count += tl.sum(kept.to(tl.int32), 0)
        mass += tl.sum(tl.where(x >= border, tl.exp(x - top), 0.0).to(tl.float64), 0)
    tl.debug_barrier()  # other threads' stores are read next
    return count, mass


@triton.jit
def _mass_from(candidates, count, top, least, block: tl.constexpr):
    """Of all candidates from `least`, in units of the likeliest token's; float64."""
    mass = tl.full([], 0.0, tl.float64)
    for start in range(0, count, block):
        places = start + tl.arange(0, block)
        x = tl.load(candidates + places, mask=places < count, other=_NEVER)
        mass += tl.sum(tl.where(x >= least, tl.exp(x - top), 0.0).to(tl.float64), 0)
    return mass


@triton.jit
def _bisect(candidates, count, top, lowest, goal, by_mass: tl.constexpr, block: tl.constexpr):
    """The largest value such that candidates from it on reach `goal` in number or mass.

    Those from `lowest` on do.
    """
    low, high = _order(lowest).to(tl.int64), _order(top).to(tl.int64) + 1
    while high - low > 1:
        middle = (low + high) // 2
        least = _value(middle.to(tl.int32))
        if by_mass:
            reached = _mass_from(candidates, count, top, least, block)
        else:
            reached = _count_from(candidates, count, least, block).to(tl.float64)
        if reached >= goal:
            low = middle
        else:
            high = middle
    return _value(low.to(tl.int32))


@triton.jit
def _count_from(candidates, count, least, block: tl.constexpr):
    number = tl.full([], 0, tl.int32)
    for start in range(0, count, block):
        places = start + tl.arange(0, block)
        x = tl.load(candidates + places, mask=places < count, other=_NEVER)
        number += tl.sum((x >= least).to(tl.int32), 0)
    return number


@triton.jit
def _order(value):
    """float32 -> int32 of the same order."""
    bits = value.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & _MAGNITUDE)


@triton.jit
def _value(order):
    """The reverse of `_order`."""
    return (order ^ ((order >> 31) & _MAGNITUDE)).to(tl.float32, bitcast=True)
