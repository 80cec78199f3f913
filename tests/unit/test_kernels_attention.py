"""Paged attention of the kernels: plain attention row by row, with the same bits in any company."""

import math
import random
from ctypes import pointer
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from baton.engine.batch import BatchSlice
from baton.engine.kernels.structs import LayerStruct, ModelStruct, StepStruct
from baton.engine.kvcache import PagedKvCache
from baton.engine.kvside import TorchKv
from baton.engine.models.native import KV_TYPES
from baton.engine.rows import address, flat_rows
from support.kernels import kernels
from support.random_model import CONFIG

LANES = 16
# (start, rows): decode rows, chunks, contexts beyond one span of 256 keys and one tile of 64
MIXED = ((0, 9), (13, 1), (700, 1), (99, 1), (0, 1), (300, 70), (63, 2), (64, 1), (255, 3))
POOL_TOKENS = 2_048
# Weights of 8-bit values have 15 bits; values are about 1.
INT8_TOLERANCE = 5e-4


@dataclass(frozen=True)
class Shape:
    heads: int = 6
    kv_heads: int = 2
    head_size: int = 32
    block_size: int = 16
    dtype: str = "float32"

    @property
    def width(self) -> int:
        return -(-self.head_size // LANES) * LANES


@dataclass
class World:
    """Sequences whose whole past and present lies in the cache; all other slots hold NaN."""

    shape: Shape
    slices: list[BatchSlice]
    q: list[torch.Tensor]  # per sequence [rows, heads, head_size]
    cache: PagedKvCache  # of one layer


def make_world(spans: tuple[tuple[int, int], ...], shape: Shape) -> World:
    """`spans`: (start, rows) per sequence."""
    generator = torch.Generator().manual_seed(1)
    pool = list(range(POOL_TOKENS // shape.block_size))
    random.Random(1).shuffle(pool)
    config = replace(CONFIG, layers=1, kv_heads=shape.kv_heads, head_size=shape.head_size)
    cache = PagedKvCache(
        config, block_count=len(pool), block_size=shape.block_size, dtype=shape.dtype
    )
    # all bits set: NaN in every float type, and in the scales of levels
    cache.write_blocks(pool, b"\xff" * (len(pool) * cache.block_bytes))
    world = World(shape, [], [], cache)
    for index, (start, rows) in enumerate(spans):
        table = [pool.pop() for _ in range(math.ceil((start + rows) / shape.block_size))]
        slots = [
            table[position // shape.block_size] * shape.block_size + position % shape.block_size
            for position in range(start + rows)
        ]
        kv = torch.randn(2, start + rows, shape.kv_heads, shape.head_size, generator=generator)
        for side, vectors in zip(TorchKv(cache).layer(0), kv, strict=True):
            side.write(torch.tensor(slots), vectors)
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
        starts=address(rows.starts),
        lengths=address(rows.lengths),
        tables=address(rows.tables),
        table_offsets=address(rows.table_offsets),
        cache=world.cache.address,
        rows=len(q),
        sequences=len(world.slices),
        kv_type=KV_TYPES[shape.dtype],
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
        side.read(torch.from_numpy(slots))
        .double()
        .repeat_interleave(shape.heads // shape.kv_heads, dim=1)
        for side in TorchKv(world.cache).layer(0)
    )
    q = TorchKv(world.cache).layer(0)[0].query(world.q[index]).double()
    scores = torch.einsum("rhd,khd->hrk", q, k) / shape.head_size**0.5
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
        Shape(dtype="bfloat16"),
        Shape(heads=7, kv_heads=1, head_size=64, block_size=4),
        Shape(heads=3, kv_heads=3, head_size=24, block_size=8),
        Shape(heads=4, kv_heads=1, head_size=80, block_size=32, dtype="bfloat16"),
        Shape(heads=2, kv_heads=2, head_size=24, block_size=1, dtype="bfloat16"),
        Shape(dtype="int8"),
        Shape(heads=9, kv_heads=3, head_size=64, dtype="int8"),
        Shape(heads=4, kv_heads=1, head_size=80, block_size=32, dtype="int8"),
        Shape(heads=7, kv_heads=1, head_size=128, block_size=64, dtype="int8"),
    ],
    ids=str,
)
def test_each_row_sees_its_own_past_and_nothing_else(shape: Shape, window: int) -> None:
    world = make_world(MIXED, shape)
    for index, found in enumerate(attend(world, window)):
        error = (found - plain(world, index, window)).abs().max()
        assert error < (INT8_TOLERANCE if shape.dtype == "int8" else 3e-6)


@pytest.mark.parametrize("dtype", KV_TYPES)
@pytest.mark.parametrize("window", [0, 40])
def test_a_row_has_the_same_bits_in_any_chunk_and_company_on_any_number_of_threads(
    dtype: str, window: int
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


@pytest.mark.parametrize("dtype", KV_TYPES)
def test_nan_reaches_only_rows_that_see_it(dtype: str) -> None:
    world = make_world(((0, 80), (0, 5)), Shape(dtype=dtype))
    keys, _ = TorchKv(world.cache).layer(0)
    slot = world.slices[0].block_table[4] * 16 + 6  # of position 70
    poison = torch.zeros(1, world.shape.kv_heads, world.shape.head_size)
    poison[..., -1] = float("nan")
    keys.write(torch.tensor([slot]), poison)
    poisoned, healthy = attend(world)
    assert poisoned[:70].isfinite().all()
    assert poisoned[70:].isnan().all()
    assert healthy.isfinite().all()
