"""Paged attention equals plain attention, row by row, whatever shares the step and the cache."""

import random
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from baton.engine.attention.paged import attend
from baton.engine.attention.plan import (
    GROUP_SPREAD_TOKENS,
    GROUP_TOKENS_MAX,
    View,
    decode_groups,
)
from baton.engine.attention.rows import Rows, flatten
from baton.engine.batch import BatchSlice
from baton.engine.kvcache import PagedKvCache
from baton.engine.kvside import KvSide, TorchKv
from support.random_model import CONFIG

HEADS, KV_HEADS, HEAD_SIZE, BLOCK_SIZE, BLOCK_COUNT = 6, 2, 16, 16, 60
MIXED = ((0, 9), (13, 1), (4, 7), (99, 1), (0, 1), (30, 30), (7, 2), (8, 1))


@dataclass
class World:
    """Sequences with a past in the cache and a present in the step; all other slots hold NaN."""

    slices: list[BatchSlice]
    k: list[torch.Tensor]  # per sequence [context, kv_heads, head_size]
    v: list[torch.Tensor]
    q: list[torch.Tensor]  # per sequence [rows, heads, head_size]
    keys: KvSide
    values: KvSide


def make_world(shape: tuple[tuple[int, int], ...], dtype: str, seed: int = 0) -> World:
    """`shape`: (start, rows) per sequence."""
    generator = torch.Generator().manual_seed(seed)
    pool = list(range(BLOCK_COUNT))
    random.Random(seed).shuffle(pool)
    config = replace(CONFIG, layers=1, kv_heads=KV_HEADS, head_size=HEAD_SIZE)
    cache = PagedKvCache(config, block_count=BLOCK_COUNT, block_size=BLOCK_SIZE, dtype=dtype)
    # all bits set: NaN in every float type, and in the scales of levels
    cache.write_blocks(pool, b"\xff" * (len(pool) * cache.block_bytes))
    world = World([], [], [], [], *TorchKv(cache).layer(0))
    for index, (start, rows) in enumerate(shape):
        context = start + rows
        table = [pool.pop() for _ in range(-(-context // BLOCK_SIZE))]
        slots = torch.tensor(
            [table[p // BLOCK_SIZE] * BLOCK_SIZE + p % BLOCK_SIZE for p in range(start)],
            dtype=torch.int64,
        )
        for tensors, side in ((world.k, world.keys), (world.v, world.values)):
            tensors.append(torch.randn(context, KV_HEADS, HEAD_SIZE, generator=generator))
            side.write(slots, tensors[-1][:start])
        world.q.append(torch.randn(rows, HEADS, HEAD_SIZE, generator=generator))
        world.slices.append(BatchSlice(str(index), [0] * rows, start, table))
    return world


def compute(world: World, window: int | None) -> tuple[Rows, list[torch.Tensor]]:
    """One layer's step -> per sequence [rows, heads * head_size]."""
    rows = flatten(world.slices, block_size=BLOCK_SIZE, window=window)
    total = len(rows.tokens)
    q = torch.empty(total, HEADS, HEAD_SIZE)
    k, v = torch.empty(2, total, KV_HEADS, HEAD_SIZE)
    for index, (first, piece) in enumerate(zip(rows.firsts, world.slices, strict=True)):
        here = slice(first, first + len(piece.token_ids))
        q[here] = world.q[index]
        k[here], v[here] = world.k[index][piece.start :], world.v[index][piece.start :]
    world.keys.write(rows.plan.write_slots, k)
    world.values.write(rows.plan.write_slots, v)
    view = rows.plan.full if window is None else rows.plan.windowed
    assert view is not None
    out = attend(q, world.keys, world.values, view)
    return rows, [
        out[first : first + len(piece.token_ids)]
        for first, piece in zip(rows.firsts, world.slices, strict=True)
    ]


def plain(world: World, index: int, window: int | None) -> torch.Tensor:
    """The same rows by the definition, in float64, one query head and one row at a time."""
    piece = world.slices[index]
    k, v = world.k[index].double(), world.v[index].double()
    q = world.q[index].double()
    out = torch.zeros(len(q), HEADS, HEAD_SIZE, dtype=torch.float64)
    for row in range(len(q)):
        position = piece.start + row
        oldest = 0 if window is None else max(0, position - window + 1)
        for head in range(HEADS):
            kv_head = head // (HEADS // KV_HEADS)
            scores = k[oldest : position + 1, kv_head] @ q[row, head] / HEAD_SIZE**0.5
            out[row, head] = scores.softmax(0) @ v[oldest : position + 1, kv_head]
    return out.flatten(1)


@pytest.mark.parametrize("window", [None, 1, 5, 64])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float32", 2e-6), ("bfloat16", 0.02), ("int8", 0.04)],
    ids=["fp32", "bf16", "int8"],
)
def test_each_row_sees_its_own_past_and_nothing_else(
    window: int | None, dtype: str, tolerance: float
) -> None:
    world = make_world(MIXED, dtype)
    _, rows = compute(world, window)
    for index, found in enumerate(rows):
        expected = plain(world, index, window)
        assert found.isfinite().all()  # NaN elsewhere in the cache reached no row
        assert (found - expected).abs().max() < tolerance


@pytest.mark.parametrize("chunk", [BLOCK_SIZE, 1, 3, 7, 30])
def test_chunks_of_any_size_equal_the_whole(chunk: int) -> None:
    whole = make_world(((0, 30),), "float32")
    _, (expected,) = compute(whole, None)
    pieces = []
    chunked = make_world(((0, 30),), "float32")
    table, q = chunked.slices[0].block_table, chunked.q[0]
    for start in range(0, 30, chunk):
        count = min(chunk, 30 - start)
        chunked.slices = [BatchSlice("0", [0] * count, start, table)]
        chunked.q = [q[start : start + count]]
        context = World(
            chunked.slices,
            [whole.k[0][: start + count]],
            [whole.v[0][: start + count]],
            chunked.q,
            chunked.keys,
            chunked.values,
        )
        pieces += compute(context, None)[1]
    assert (torch.cat(pieces) - expected).abs().max() < 2e-6


def test_a_row_does_not_change_with_its_company() -> None:
    crowd = make_world(MIXED, "float32")
    _, together = compute(crowd, None)
    for index, piece in enumerate(crowd.slices):
        alone = World(
            [piece], [crowd.k[index]], [crowd.v[index]], [crowd.q[index]], crowd.keys, crowd.values
        )
        _, (solo,) = compute(alone, None)
        assert (solo - together[index]).abs().max() < 2e-6


def test_a_lone_decode_row_and_a_first_chunk_need_no_mask() -> None:
    def only(view: View) -> torch.Tensor | None:
        (span,) = view.decode + view.prefill
        return span.mask

    for shape in (((50, 1),), ((0, 50),)):
        rows, _ = compute(make_world(shape, "float32"), None)
        assert only(rows.plan.full) is None


def test_windowed_rows_read_no_more_than_the_window() -> None:
    rows, _ = compute(make_world(((90, 1), (60, 5)), "float32"), 10)
    assert rows.plan.windowed is not None
    assert rows.plan.windowed.decode[0].slots.shape == (1, 10)
    assert rows.plan.windowed.prefill[0].slots.shape == (14,)


def test_decode_rows_of_like_length_share_a_gather() -> None:
    assert decode_groups([]) == []
    assert decode_groups([200, 90, 3]) == [(0, 3)]  # short ones are not worth splitting
    assert decode_groups([1000, 900, 600, 400, 210]) == [(0, 3), (3, 5)]


@pytest.mark.parametrize("seed", range(5))
def test_decode_groups_cover_every_row_once_within_the_limits(seed: int) -> None:
    generator = np.random.default_rng(seed)
    seen = sorted((int(n) for n in generator.integers(1, 9_000, 100)), reverse=True)
    groups = decode_groups(seen)
    assert [row for first, end in groups for row in range(first, end)] == list(range(100))
    for first, end in groups:
        assert (end - first) * seen[first] <= GROUP_TOKENS_MAX
        assert seen[end - 1] >= seen[first] // 2 or seen[first] <= GROUP_SPREAD_TOKENS


def test_one_row_longer_than_the_limit_is_a_group_of_its_own() -> None:
    assert decode_groups([GROUP_TOKENS_MAX * 2, 5]) == [(0, 1), (1, 2)]
