"""Paged attention of the kernels: plain attention row by row, with the same bits in any company."""

import math
import random
from ctypes import pointer
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from baton.engine.batch import BatchSlice
from baton.engine.kernels.structs import KvType, LayerStruct, ModelStruct, StepStruct
from baton.engine.rows import flat_rows
from support.kernels import kernels

LANES = 16
# (start, rows): decode rows, chunks, contexts beyond one span of 256 keys and one tile of 64
MIXED = ((0, 9), (13, 1), (700, 1), (99, 1), (0, 1), (300, 70), (63, 2), (64, 1), (255, 3))
POOL_TOKENS = 2_048


@dataclass(frozen=True)
class Shape:
    heads: int = 6
    kv_heads: int = 2
    head_size: int = 32
    block_size: int = 16
    dtype: torch.dtype = torch.float32

    @property
    def width(self) -> int:
        return -(-self.head_size // LANES) * LANES


@dataclass
class World:
    """Sequences whose whole past and present lies in the cache; all other slots hold NaN."""

    shape: Shape
    slices: list[BatchSlice]
    q: list[torch.Tensor]  # per sequence [rows, heads, head_size]
    cache: torch.Tensor  # [k and v, slots, kv_heads, head_size]


def make_world(spans: tuple[tuple[int, int], ...], shape: Shape) -> World:
    """`spans`: (start, rows) per sequence."""
    generator = torch.Generator().manual_seed(1)
    pool = list(range(POOL_TOKENS // shape.block_size))
    random.Random(1).shuffle(pool)
    cache = torch.full((2, POOL_TOKENS, shape.kv_heads, shape.head_size), float("nan"))
    world = World(shape, [], [], cache.to(shape.dtype))
    for index, (start, rows) in enumerate(spans):
        table = [pool.pop() for _ in range(math.ceil((start + rows) / shape.block_size))]
        slots = [
            table[position // shape.block_size] * shape.block_size + position % shape.block_size
            for position in range(start + rows)
        ]
        kv = torch.randn(2, start + rows, shape.kv_heads, shape.head_size, generator=generator)
        world.cache[:, slots] = kv.to(shape.dtype)
        world.q.append(torch.randn(rows, shape.heads, shape.head_size, generator=generator) * 2)
        world.slices.append(BatchSlice(str(index), [0] * rows, start, table))
    return world


def attend(world: World, window: int = 0, threads: int = 1) -> list[torch.Tensor]:
    """Per sequence [rows, heads, head_size]."""
    shape, rows = world.shape, flat_rows(world.slices)
    q = torch.zeros(len(rows.tokens), shape.heads, shape.width)
    q[..., : shape.head_size] = torch.cat(world.q) * (math.log2(math.e) / shape.head_size**0.5)
    out = torch.full((len(q), shape.heads, shape.head_size), float("nan"))
    layer = LayerStruct(window=window)
    model = ModelStruct(
        layers=pointer(layer),
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_size=shape.head_size,
    )
    step = StepStruct(
        starts=rows.starts.ctypes.data,
        lengths=rows.lengths.ctypes.data,
        tables=rows.tables.ctypes.data,
        table_offsets=rows.table_offsets.ctypes.data,
        cache=world.cache.data_ptr(),
        rows=len(q),
        sequences=len(world.slices),
        kv_type=KvType.FLOAT32 if shape.dtype is torch.float32 else KvType.BFLOAT16,
        block_count=POOL_TOKENS // shape.block_size,
        block_size=shape.block_size,
    )
    kernels().attend(model, step, 0, q.data_ptr(), out.data_ptr(), threads)
    return [
        out[first : first + len(piece.token_ids)]
        for first, piece in zip(rows.firsts, world.slices, strict=True)
    ]


def plain(world: World, index: int, window: int) -> torch.Tensor:
    """The same rows by the definition, in float64."""
    shape, piece = world.shape, world.slices[index]
    positions = np.arange(piece.context_length)
    table = np.array(piece.block_table)
    slots = table[positions // shape.block_size] * shape.block_size + positions % shape.block_size
    k, v = (
        side[slots].double().repeat_interleave(shape.heads // shape.kv_heads, dim=1)
        for side in world.cache
    )
    scores = torch.einsum("rhd,khd->hrk", world.q[index].double(), k) / shape.head_size**0.5
    own = torch.arange(piece.start, piece.context_length)[:, None]
    seen = torch.arange(len(positions))[None] <= own
    if window:
        seen &= torch.arange(len(positions))[None] > own - window
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    return torch.einsum("hrk,khd->rhd", weights, v)


@pytest.mark.parametrize("window", [0, 1, 50, 300])
@pytest.mark.parametrize(
    "shape",
    [
        Shape(),
        Shape(dtype=torch.bfloat16),
        Shape(heads=7, kv_heads=1, head_size=64, block_size=4),
        Shape(heads=3, kv_heads=3, head_size=24, block_size=8),
        Shape(heads=4, kv_heads=1, head_size=80, block_size=32, dtype=torch.bfloat16),
        Shape(heads=2, kv_heads=2, head_size=24, block_size=1, dtype=torch.bfloat16),
    ],
    ids=str,
)
def test_each_row_sees_its_own_past_and_nothing_else(shape: Shape, window: int) -> None:
    world = make_world(MIXED, shape)
    for index, found in enumerate(attend(world, window)):
        assert (found - plain(world, index, window)).abs().max() < 3e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [0, 40])
def test_a_row_has_the_same_bits_in_any_chunk_and_company_on_any_number_of_threads(
    dtype: torch.dtype, window: int
) -> None:
    shape = Shape(heads=6, kv_heads=2, dtype=dtype)
    whole = make_world(((0, 600),), shape)
    (expected,) = attend(whole, window)
    table, context = whole.slices[0].block_table, whole.slices[0].context_length
    for chunk, threads in ((1, 1), (1, 3), (7, 1), (64, 2), (250, 3)):
        starts = range(0, context, chunk) if chunk > 1 else (0, 63, 64, 255, 256, 511, 599)
        pieces = [
            BatchSlice("a", [0] * min(chunk, context - start), start, table) for start in starts
        ]
        q = [whole.q[0][piece.start : piece.context_length] for piece in pieces]
        # one chunk per step, then all of them as rows of one step
        for piece, own in zip(pieces, q, strict=True):
            (found,) = attend(replace(whole, slices=[piece], q=[own]), window, threads)
            assert torch.equal(found, expected[piece.start : piece.context_length])
        together = attend(replace(whole, slices=pieces, q=q), window, threads)
        for piece, found in zip(pieces, together, strict=True):
            assert torch.equal(found, expected[piece.start : piece.context_length])


def test_nan_reaches_only_rows_that_see_it() -> None:
    world = make_world(((0, 80), (0, 5)), Shape())
    block = world.slices[0].block_table[4]
    world.cache[0, block * 16 + 6] = float("nan")  # the key at position 70
    poisoned, healthy = attend(world)
    assert poisoned[:70].isfinite().all()
    assert poisoned[70:].isnan().all()
    assert healthy.isfinite().all()
