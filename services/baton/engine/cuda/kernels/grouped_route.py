"""Which experts a token goes to, and which tokens an expert gets: the two tables of a mixture.

A pair is one token at one of its experts: pair `token * experts_per_token + place`. Pairs are laid
out by expert, each expert's in whole tiles, in the order of the tokens: no atomics, so the same
tables every time. Knows no weights.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from baton.engine.cuda.kernels.launch import begin, launch

NOBODY = tl.constexpr(-1)
"""The pair of an empty place, and the expert of an unused tile or of a padding row."""

PAIRS_AT_ONCE = 1_024
"""Pairs a program looks at in one loop step: a few for each of its threads. However few there are,
so that their number makes no variant."""


@dataclass(frozen=True, slots=True)
class Routes:
    """int32 and float32 tensors of a static size, for `rows_max` tokens."""

    shares: torch.Tensor  # [pairs] float32
    chosen: torch.Tensor  # [pairs] expert of each pair
    counts: torch.Tensor  # [experts] pairs of each expert
    order: torch.Tensor  # [tiles * tile rows] pairs, expert by expert
    tile_experts: torch.Tensor  # [tiles]


def tiles_max(pairs: int, experts: int, tile_rows: int) -> int:
    """Tiles that so many pairs can fill, whoever they go to."""
    return min(pairs, pairs // tile_rows + min(experts, pairs))


def choose(
    ratings: torch.Tensor,
    slots: torch.Tensor | None,
    routes: Routes,
    *,
    experts_per_token: int,
    normed: bool,
) -> None:
    """ratings [T, experts] float32, before the softmax -> `shares` and `chosen`. Rows whose slot is
    negative are padding and go to nobody. Of equals, the lower expert is chosen; ratings that are
    not finite make shares of NaN."""
    rows, experts = ratings.shape
    launch(
        _choose,
        (rows,),
        ratings,
        slots,
        routes.shares,
        routes.chosen,
        experts=experts,
        block=triton.next_power_of_2(experts),
        per_token=experts_per_token,
        place_block=triton.next_power_of_2(experts_per_token),
        normed=normed,
        num_warps=1,
    )


def arrange(routes: Routes, *, pairs: int, tile_rows: int) -> None:
    """`chosen` -> `counts`, `order` and `tile_experts`."""
    experts = len(routes.counts)
    launch(_count, (experts,), routes.chosen, routes.counts, pairs, block=PAIRS_AT_ONCE)
    launch(
        _arrange,
        (experts,),
        routes.chosen,
        routes.counts,
        routes.order,
        routes.tile_experts,
        pairs,
        tiles_max(pairs, experts, tile_rows),
        experts=experts,
        expert_block=triton.next_power_of_2(experts),
        tile_rows=tile_rows,
        block=PAIRS_AT_ONCE,
    )


@triton.jit(do_not_specialize_on_alignment=["slots"])  # they lie among a step's other numbers
def _choose(
    ratings,
    slots,
    shares,
    chosen,
    experts: tl.constexpr,
    block: tl.constexpr,
    per_token: tl.constexpr,
    place_block: tl.constexpr,
    normed: tl.constexpr,
    early: tl.constexpr,
):
    begin(early)
    row = tl.program_id(0)
    ids = tl.arange(0, block)
    rated = tl.load(ratings + row * experts + ids, mask=ids < experts, other=0.0)
    fine = tl.abs(rated) < float("inf")
    spoiled = tl.sum(tl.where(fine, 0, 1), axis=0) > 0
    rated = tl.where(fine & (ids < experts), rated, float("-inf"))
    highest = tl.where(spoiled, 0.0, tl.max(rated, axis=0))
    risen = tl.where(spoiled, 1.0, tl.exp(rated - highest))
    left = risen / tl.sum(risen, axis=0)
    places = tl.arange(0, place_block)
    experts_of, shares_of = tl.zeros((place_block,), tl.int32), tl.zeros((place_block,), tl.float32)
    for place in tl.static_range(per_token):
        best = tl.max(left, axis=0)
        expert = tl.min(tl.where(left == best, ids, block), axis=0)
        left = tl.where(ids == expert, -1.0, left)
        experts_of = tl.where(places == place, expert, experts_of)
        shares_of = tl.where(places == place, best, shares_of)
    if normed:
        shares_of /= tl.sum(shares_of, axis=0)
    shares_of = tl.where(spoiled, float("nan"), shares_of)
    at = row * per_token + places
    inside = places < per_token
    if slots is not None:
        experts_of = tl.where(tl.load(slots + row) >= 0, experts_of, NOBODY)
    tl.store(chosen + at, experts_of, mask=inside)
    tl.store(shares + at, shares_of, mask=inside)


@triton.jit(do_not_specialize=["pairs"])  # one variant for any number of pairs
def _count(chosen, counts, pairs, block: tl.constexpr, early: tl.constexpr):
    begin(early)
    expert = tl.program_id(0)
    total = tl.zeros((block,), tl.int32)
    for first in range(0, pairs, block):
        ids = first + tl.arange(0, block)
        taken = tl.load(chosen + ids, mask=ids < pairs, other=NOBODY)
        total += (taken == expert).to(tl.int32)
    tl.store(counts + expert, tl.sum(total, axis=0))


@triton.jit(do_not_specialize=["pairs", "tiles"])
def _arrange(
    chosen,
    counts,
    order,
    tile_experts,
    pairs,
    tiles,
    experts: tl.constexpr,
    expert_block: tl.constexpr,
    tile_rows: tl.constexpr,
    block: tl.constexpr,
    early: tl.constexpr,
):
    begin(early)
    expert = tl.program_id(0)
    ids = tl.arange(0, expert_block)
    needed = tl.load(counts + ids, mask=ids < experts, other=0)
    needed = (needed + tile_rows - 1) // tile_rows
    first_tile = tl.sum(tl.where(ids < expert, needed, 0), axis=0)
    own_tiles = tl.sum(tl.where(ids == expert, needed, 0), axis=0)
    places = tl.arange(0, block)
    # the last expert closes the table
    end = tl.where(expert == experts - 1, tiles, first_tile + own_tiles)
    for first in range(first_tile, end, block):
        tile = first + places
        owner = tl.where(tile < first_tile + own_tiles, expert, NOBODY)
        tl.store(tile_experts + tile, owner, mask=tile < end)
    filled = first_tile * tile_rows
    for first in range(0, pairs, block):
        pair = first + places
        mine = tl.load(chosen + pair, mask=pair < pairs, other=NOBODY) == expert
        rank = tl.cumsum(mine.to(tl.int32), axis=0)
        tl.store(order + filled + rank - 1, pair, mask=mine)
        filled += tl.sum(mine.to(tl.int32), axis=0)
    end_place = (first_tile + own_tiles) * tile_rows
    empty = filled + tl.arange(0, tile_rows)
    tl.store(order + empty, NOBODY, mask=empty < end_place)
