"""Chooses a token per row of logits on the device: the likeliest, or a draw as on the CPU.

The draw is `engine.sampler.draw` after `engine.filters.filter_row`, with the noise of
`engine.noise`: the same seed, position and logits give the same token. Knows rows, parameters and
counter-based noise; keeps no state. Edits of logits (bias, penalties) are made before, by others.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from baton.engine.cuda.kernels.launch import begin, launch
from baton.engine.cuda.kernels.philox import gumbel, random_words
from baton.engine.cuda.kernels.sampling_filter import filter_border, scaled
from baton.engine.params import TEMPERATURE_GREEDY

# Tokens of one program: a vocabulary of 128k in 64 of them. A multiple of 4, as noise comes in
# fours.
TILE = 2048
TILE_WARPS = 4
# Of the programs that look at a whole row: they are few, so each takes half a multiprocessor.
ROW_BLOCK = 8192
ROW_WARPS = 16

_GREEDY = tl.constexpr(TEMPERATURE_GREEDY)
_NEVER = tl.constexpr(float("-inf"))
_NO_TOKEN = tl.constexpr(-1)
_ID_MAX = tl.constexpr(0x7FFFFFFF)


@dataclass(frozen=True, slots=True)
class DrawParams:
    """What each row of logits [R, vocab] asks for; device tensors of static shape."""

    temperature: torch.Tensor  # [R] float32; below TEMPERATURE_GREEDY: the likeliest token
    top_k: torch.Tensor  # [R] int32; 0: off
    top_p: torch.Tensor  # [R] float32, (0, 1]; 1: off
    min_p: torch.Tensor  # [R] float32; 0: off
    seed: torch.Tensor  # [R] int64: the bits of the unsigned seed
    position: torch.Tensor  # [R] int32, index of the token to be drawn; negative: a padding row


@dataclass(frozen=True, slots=True)
class SamplingWorkspace:
    """Scratch memory of `likeliest` and `draw`, for up to so many rows of one vocabulary."""

    tile_best: torch.Tensor  # [R, tiles] float64
    tile_ids: torch.Tensor  # [R, tiles] int32
    tile_finite: torch.Tensor  # [R, tiles] int32
    border: torch.Tensor  # [R] float32, the least that the filters leave, after the temperature
    candidates: torch.Tensor  # [R, vocab] float32

    @classmethod
    def allocate(cls, *, rows: int, vocab: int, device: torch.device) -> "SamplingWorkspace":
        tiles = (rows, triton.cdiv(vocab, TILE))
        return cls(
            tile_best=torch.empty(tiles, dtype=torch.float64, device=device),
            tile_ids=torch.empty(tiles, dtype=torch.int32, device=device),
            tile_finite=torch.empty(tiles, dtype=torch.int32, device=device),
            border=torch.empty(rows, device=device),
            candidates=torch.empty(rows, vocab, device=device),
        )


def likeliest(
    logits: torch.Tensor,
    ids_out: torch.Tensor,
    finite_out: torch.Tensor,
    workspace: SamplingWorkspace,
) -> None:
    """logits [R, vocab] float32 or bfloat16, rows any stride apart -> the likeliest token of each
    row, the lowest of equals, to ids_out [R] int32; 1 to finite_out [R] int32 where the row is free
    of NaN and infinities, else 0."""
    rows, vocab = logits.shape
    if rows == 0:
        return
    tiles = triton.cdiv(vocab, TILE)
    _scan(logits, workspace)
    launch(
        _settle_likeliest,
        (rows,),
        workspace.tile_best,
        workspace.tile_ids,
        workspace.tile_finite,
        ids_out,
        finite_out,
        tiles,
        block=triton.next_power_of_2(tiles),
        num_warps=1,
    )


def draw(
    logits: torch.Tensor,
    params: DrawParams,
    ids_out: torch.Tensor,
    finite_out: torch.Tensor,
    workspace: SamplingWorkspace,
) -> None:
    """As `likeliest`, but each row's token is drawn as its parameters say; -1 where these leave no
    token. ids_out and finite_out of padding rows stay as they are."""
    rows, vocab = logits.shape
    if rows == 0:
        return
    tiles = triton.cdiv(vocab, TILE)
    found = (workspace.tile_best, workspace.tile_ids)
    block = triton.next_power_of_2(tiles)
    _scan(logits, workspace)
    launch(
        _settle_filters,
        (rows,),
        logits,
        *found,
        workspace.tile_finite,
        workspace.candidates,
        workspace.border,
        params.temperature,
        params.top_k,
        params.top_p,
        params.min_p,
        params.position,
        ids_out,
        finite_out,
        logits.stride(0),
        vocab,
        tiles,
        tile_block=block,
        block=min(ROW_BLOCK, triton.next_power_of_2(vocab)),
        num_warps=ROW_WARPS,
    )
    launch(
        _draw_tiles,
        (tiles, rows),
        logits,
        *found,
        workspace.border,
        params.temperature,
        params.seed,
        params.position,
        logits.stride(0),
        vocab,
        block=TILE,
        num_warps=TILE_WARPS,
    )
    launch(
        _settle_draws,
        (rows,),
        *found,
        params.temperature,
        params.position,
        ids_out,
        tiles,
        block=block,
        num_warps=1,
    )


def _scan(logits: torch.Tensor, workspace: SamplingWorkspace) -> None:
    rows, vocab = logits.shape
    assert logits.stride(1) == 1
    launch(
        _scan_tiles,
        (triton.cdiv(vocab, TILE), rows),
        logits,
        workspace.tile_best,
        workspace.tile_ids,
        workspace.tile_finite,
        logits.stride(0),
        vocab,
        block=TILE,
        num_warps=TILE_WARPS,
    )


@triton.jit
def _scan_tiles(
    logits,
    tile_best,
    tile_ids,
    tile_finite,
    stride,
    vocab,
    block: tl.constexpr,
    early: tl.constexpr,
):
    """Grid (tiles, rows): the likeliest of a tile, and whether all of it is finite."""
    begin(early)
    tile, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    ids = tile * block + tl.arange(0, block)
    x = tl.load(logits + row * stride + ids, mask=ids < vocab, other=0.0).to(tl.float32)
    finite = tl.abs(x) < float("inf")  # false of NaN
    x = tl.where((ids < vocab) & (x == x), x, _NEVER)
    best = tl.max(x, 0)
    at = row * tl.num_programs(0) + tile
    tl.store(tile_best + at, best.to(tl.float64))
    tl.store(tile_ids + at, tl.min(tl.where(x == best, ids, _ID_MAX), 0))
    tl.store(tile_finite + at, tl.min(finite.to(tl.int32), 0))


@triton.jit
def _best_tile(tile_best, tile_ids, row, tiles, block: tl.constexpr):
    """The best of all tiles of a row, the lowest id of equals: value (float64) and id."""
    tile = tl.arange(0, block)
    at = row * tiles + tile
    values = tl.load(tile_best + at, mask=tile < tiles, other=_NEVER)
    ids = tl.load(tile_ids + at, mask=tile < tiles, other=_ID_MAX)
    best = tl.max(values, 0)
    return best, tl.min(tl.where(values == best, ids, _ID_MAX), 0)


@triton.jit
def _all_finite(tile_finite, row, tiles, block: tl.constexpr):
    tile = tl.arange(0, block)
    return tl.min(tl.load(tile_finite + row * tiles + tile, mask=tile < tiles, other=1), 0)


@triton.jit(do_not_specialize_on_alignment=["ids_out", "finite_out"])
def _settle_likeliest(
    tile_best,
    tile_ids,
    tile_finite,
    ids_out,
    finite_out,
    tiles,
    block: tl.constexpr,
    early: tl.constexpr,
):
    """One row a program."""
    begin(early)
    row = tl.program_id(0).to(tl.int64)
    _, token = _best_tile(tile_best, tile_ids, row, tiles, block)
    tl.store(ids_out + row, token)
    tl.store(finite_out + row, _all_finite(tile_finite, row, tiles, block))


@triton.jit(
    do_not_specialize_on_alignment=[
        *("temperatures", "top_ks", "top_ps", "min_ps", "positions", "ids_out", "finite_out")
    ]
)
def _settle_filters(
    logits,
    tile_best,
    tile_ids,
    tile_finite,
    candidates,
    borders,
    temperatures,
    top_ks,
    top_ps,
    min_ps,
    positions,
    ids_out,
    finite_out,
    stride,
    vocab,
    tiles,
    tile_block: tl.constexpr,
    block: tl.constexpr,
    early: tl.constexpr,
):
    """One row a program: settles greedy rows, finds the others' borders."""
    begin(early)
    row = tl.program_id(0).to(tl.int64)
    if tl.load(positions + row) < 0:
        return
    best, token = _best_tile(tile_best, tile_ids, row, tiles, tile_block)
    tl.store(ids_out + row, tl.where(best > _NEVER, token, _NO_TOKEN))
    tl.store(finite_out + row, _all_finite(tile_finite, row, tiles, tile_block))
    temperature = tl.load(temperatures + row)
    if (temperature >= _GREEDY) & (best > _NEVER):
        border = filter_border(
            logits + row * stride,
            candidates + row * vocab,
            vocab,
            tl.div_rn(best.to(tl.float32), temperature),
            temperature,
            tl.load(top_ks + row),
            tl.load(top_ps + row),
            tl.load(min_ps + row),
            block,
        )
        tl.store(borders + row, border)


@triton.jit(do_not_specialize_on_alignment=["temperatures", "seeds", "positions"])
def _draw_tiles(
    logits,
    tile_best,
    tile_ids,
    borders,
    temperatures,
    seeds,
    positions,
    stride,
    vocab,
    block: tl.constexpr,
    early: tl.constexpr,
):
    """Grid (tiles, rows): the highest sum of logit and noise in a tile."""
    begin(early)
    tile, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    temperature = tl.load(temperatures + row)
    position = tl.load(positions + row)
    if (position < 0) | (temperature < _GREEDY):
        return
    quads = tile * (block // 4) + tl.arange(0, block // 4)
    ids = quads[:, None] * 4 + tl.arange(0, 4)[None, :]
    x = tl.load(logits + row * stride + ids, mask=ids < vocab, other=_NEVER).to(tl.float32)
    x = scaled(x, temperature)
    kept = (x >= tl.load(borders + row)) & (x > _NEVER)
    at = row * tl.num_programs(0) + tile
    best = tl.full([], _NEVER, tl.float64)
    if tl.max(tl.max(kept.to(tl.int32), 1), 0) > 0:  # noise costs more than the rest of it
        seed = tl.load(seeds + row).to(tl.uint64, bitcast=True)
        words = random_words(seed, position.to(tl.uint64), quads.to(tl.uint64))
        sums = tl.where(kept, x.to(tl.float64) + gumbel(words), _NEVER)
        best = tl.max(tl.max(sums, 1), 0)
        winners = tl.where(sums == best, ids, _ID_MAX)
        tl.store(tile_ids + at, tl.min(tl.min(winners, 1), 0))
    tl.store(tile_best + at, best)


@triton.jit(do_not_specialize_on_alignment=["temperatures", "positions", "ids_out"])
def _settle_draws(
    tile_best,
    tile_ids,
    temperatures,
    positions,
    ids_out,
    tiles,
    block: tl.constexpr,
    early: tl.constexpr,
):
    """One row a program. Greedy rows are settled already."""
    begin(early)
    row = tl.program_id(0).to(tl.int64)
    if (tl.load(positions + row) < 0) | (tl.load(temperatures + row) < _GREEDY):
        return
    best, token = _best_tile(tile_best, tile_ids, row, tiles, block)
    tl.store(ids_out + row, tl.where(best > _NEVER, token, _NO_TOKEN))
