"""Paged attention on the device equals plain attention in float32, row by row."""

import random
from dataclasses import dataclass

import pytest
import torch
from baton.engine.cuda.kernels.attention import SplitWorkspace, attend
from baton.engine.cuda.kernels.attention_few import COMBINED, PART_TOKENS_MIN
from baton.engine.cuda.kernels.attention_plan import (
    PROGRAMS_PER_PROCESSOR,
    SPLITS_MAX,
    few_rows,
    parts_needed,
    plan_splits,
)
from baton.engine.cuda.kernels.rope import KvScales

Shape = tuple[tuple[int, int], ...]
"""(tokens in the cache, rows of the step) per sequence; no rows: a padding sequence."""

BLOCKS = 64


@dataclass(frozen=True)
class Heads:
    query: int
    key: int
    size: int


@dataclass
class Inputs:
    query_starts: torch.Tensor
    context_lengths: torch.Tensor
    block_tables: torch.Tensor


@dataclass
class World:
    """Sequences whose keys and values lie in the cache; all other slots hold NaN."""

    q: torch.Tensor  # [T, heads, head_size]
    keys: torch.Tensor
    values: torch.Tensor
    scales: KvScales | None
    inputs: Inputs
    expected: torch.Tensor  # [T, heads * head_size]

    def attend(self, *, splits: int = 1, window: int | None = None) -> torch.Tensor:
        sequences = len(self.inputs.context_lengths)
        rows_max = int(self.inputs.query_starts.diff().max())
        heads, kv_heads = self.q.shape[1], self.keys.shape[2]
        parts = parts_needed(sequences, rows_max, heads, kv_heads, splits)
        workspace = SplitWorkspace.allocate(
            parts=parts, head_size=self.q.shape[2], device=torch.device("cpu")
        )
        workspace.sums.fill_(torch.nan)
        workspace.weights.fill_(torch.nan)
        out = torch.full((len(self.q), heads * self.q.shape[2]), torch.nan, dtype=self.q.dtype)
        attend(
            self.q,
            self.keys,
            self.values,
            self.scales,
            self.inputs,
            out,
            window=window,
            rows_max=rows_max,
            splits=splits,
            workspace=workspace,
        )
        return out


def make_world(
    shape: Shape,
    heads: Heads,
    *,
    block_size: int = 16,
    window: int | None = None,
    dtype: torch.dtype = torch.float32,
    kv_dtype: torch.dtype | None = None,
    padding_rows: int = 0,
) -> World:
    generator = torch.Generator().manual_seed(len(shape))
    pool = list(range(BLOCKS))
    random.Random(0).shuffle(pool)
    rows = sum(count for _, count in shape)
    q = torch.randn(rows + padding_rows, heads.query, heads.size, generator=generator).to(dtype)
    place = (BLOCKS, block_size, heads.key)
    k, v = torch.full((2, *place, heads.size), torch.nan)
    longest = max(start + count for start, count in shape)
    tables = torch.full((len(shape), -(-longest // block_size) + 1), 2**30, dtype=torch.int32)
    for index, (start, count) in enumerate(shape):
        context = start + count
        table = [pool.pop() for _ in range(-(-context // block_size))]
        tables[index, : len(table)] = torch.tensor(table)
        for side in (k, v):
            fresh = torch.randn(context, *place[2:], heads.size, generator=generator)
            for position in range(context):
                side[table[position // block_size], position % block_size] = fresh[position]
    starts = torch.tensor([0, *(count for _, count in shape)]).cumsum(0).int()
    contexts = torch.tensor([start + count for start, count in shape], dtype=torch.int32)
    inputs = Inputs(starts, contexts, tables)
    keys, key_scales = stored(k, kv_dtype or dtype)
    values, value_scales = stored(v, kv_dtype or dtype)
    scales = None
    if key_scales is not None and value_scales is not None:
        scales = (key_scales, value_scales)
        k, v = (x.float() * s[..., None] for x, s in ((keys, key_scales), (values, value_scales)))
    else:
        k, v = keys.float(), values.float()
    expected = torch.full((len(q), heads.query * heads.size), torch.nan)
    expected[:rows] = plain(q.float(), k, v, inputs, window)
    return World(q, keys, values, scales, inputs, expected)


def stored(vectors: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
    """[..., head_size] float32 as a cache of `dtype` holds them."""
    if dtype.itemsize > 1:
        return vectors.to(dtype), None
    most = 127.0 if dtype is torch.int8 else torch.finfo(dtype).max
    scales = vectors.abs().amax(-1) / most  # NaN where nothing was written
    units = vectors / scales[..., None]
    return (units.round() if dtype is torch.int8 else units).nan_to_num(99.0).to(dtype), scales


def plain(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, inputs: Inputs, window: int | None
) -> torch.Tensor:
    """One row at a time, over the positions it sees."""
    out = []
    block_size, group = k.shape[1], q.shape[1] // k.shape[2]
    for index, table in enumerate(inputs.block_tables):
        first, end = inputs.query_starts[index : index + 2].tolist()
        context = int(inputs.context_lengths[index])
        used = table[: -(-context // block_size)].long()
        keys = k[used].flatten(0, 1).repeat_interleave(group, 1)  # [L, heads, head_size]
        values = v[used].flatten(0, 1).repeat_interleave(group, 1)
        for row in range(first, end):
            last = context - end + row + 1
            seen = slice(max(0, last - window) if window else 0, last)
            scores = torch.einsum("hd,lhd->hl", q[row], keys[seen]) * q.shape[2] ** -0.5
            out.append(torch.einsum("hl,lhd->hd", scores.softmax(-1), values[seen]).flatten())
    return torch.stack(out)


GROUPS = [Heads(2, 2, 64), Heads(6, 2, 64), Heads(4, 1, 96), Heads(8, 1, 128)]
DECODE: Shape = ((0, 1), (14, 1), (15, 1), (16, 1), (0, 0), (299, 1))


@pytest.mark.parametrize(("heads", "splits"), [(GROUPS[1], 1), *((one, 3) for one in GROUPS)])
def test_decode_of_any_length_beside_padding(heads: Heads, splits: int) -> None:
    world = make_world(DECODE, heads, padding_rows=1)
    out = world.attend(splits=splits)
    torch.testing.assert_close(out, world.expected, equal_nan=True, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("block_size", "window"), [(16, None), (32, None), (32, 1), (32, 20), (32, 150)]
)
def test_prompts_with_and_without_a_prefix_beside_decode(
    block_size: int, window: int | None
) -> None:
    # among them a last tile of two rows, and a first row just before a block of columns ends
    shape: Shape = ((0, 45), (130, 1), (200, 44), (0, 0), (7, 3), (62, 17))
    world = make_world(shape, Heads(6, 2, 64), block_size=block_size, window=window)
    out = world.attend(splits=2, window=window)
    torch.testing.assert_close(out, world.expected, rtol=1e-4, atol=1e-5)


def test_guesses_take_part_in_the_split_kernel() -> None:
    heads = Heads(8, 2, 64)
    assert few_rows(heads.query, heads.key) == 4
    world = make_world(((200, 4), (60, 2), (0, 3), (150, 1)), heads)
    torch.testing.assert_close(world.attend(splits=4), world.expected, rtol=1e-4, atol=1e-5)


def test_more_parts_than_are_put_together_at_once() -> None:
    assert COMBINED * PART_TOKENS_MIN < 1201
    world = make_world(((1200, 1),), Heads(12, 1, 64), block_size=32)
    torch.testing.assert_close(world.attend(splits=20), world.expected, rtol=1e-4, atol=1e-5)


def test_more_heads_to_a_key_than_a_product_has_rows() -> None:
    world = make_world(((70, 1), (3, 40)), Heads(24, 1, 64))
    torch.testing.assert_close(world.attend(splits=2), world.expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [1, 64, 100])
def test_a_window_hides_what_lies_before_it(window: int) -> None:
    world = make_world(((299, 1), (20, 3), (0, 1)), Heads(4, 2, 64), window=window)
    torch.testing.assert_close(
        world.attend(splits=3, window=window), world.expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kv_dtype", [torch.bfloat16, torch.int8, torch.float8_e4m3fn], ids=str)
def test_bfloat16_queries_on_every_cache(kv_dtype: torch.dtype) -> None:
    world = make_world(
        ((99, 1), (20, 40)), Heads(4, 2, 64), dtype=torch.bfloat16, kv_dtype=kv_dtype
    )
    out = world.attend(splits=2).float()
    # weights and results are rounded to 8 bits of mantissa, and keys are exact in them
    torch.testing.assert_close(out, world.expected, rtol=2e-2, atol=1e-2)


@pytest.mark.parametrize("kv_dtype", [torch.int8, torch.float8_e4m3fn], ids=str)
def test_8_bit_caches_are_read_exactly(kv_dtype: torch.dtype) -> None:
    world = make_world(((99, 1), (20, 40)), Heads(6, 2, 96), kv_dtype=kv_dtype, block_size=32)
    torch.testing.assert_close(world.attend(splits=2), world.expected, rtol=1e-4, atol=1e-5)


def test_a_step_without_rows_launches_nothing() -> None:
    world = make_world(((0, 1),), Heads(2, 1, 64))
    world.inputs.query_starts.zero_()
    assert world.attend().isnan().all()


def test_splits_fill_the_machine_and_no_more() -> None:
    places = 132 * PROGRAMS_PER_PROCESSOR
    assert plan_splits(10_000, 8, 132) == 1
    assert plan_splits(1, 1, 132) == SPLITS_MAX
    for sequences in range(1, 300):
        splits = plan_splits(sequences, 8, 132)
        waves = sequences * 8 * splits / places
        assert waves / -(-waves // 1) >= 0.9 or splits == SPLITS_MAX
        assert 1 <= splits <= SPLITS_MAX
