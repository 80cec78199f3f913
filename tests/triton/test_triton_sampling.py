"""A token chosen on the device is the one that the CPU chooses from the same logits."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from baton.engine.cuda.kernels.philox import gumbel, random_words
from baton.engine.cuda.kernels.sampling import (
    ROW_BLOCK,
    TILE,
    DrawParams,
    SamplingWorkspace,
    draw,
    likeliest,
)
from baton.engine.filters import filter_row
from baton.engine.noise import Noise
from baton.engine.params import SamplingParams
from baton.engine.sampler import draw as draw_on_cpu

CPU = torch.device("cpu")
UNTOUCHED = -7


def logits(rows: int, vocab: int, spread: float = 3.0) -> torch.Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(vocab)) * spread


def choose(
    values: torch.Tensor, wanted: Sequence[SamplingParams], positions: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Token ids and whether rows are finite, as the device finds them."""
    rows, vocab = values.shape
    params = DrawParams(
        temperature=torch.tensor([one.temperature for one in wanted]),
        top_k=torch.tensor([one.top_k for one in wanted], dtype=torch.int32),
        top_p=torch.tensor([one.top_p for one in wanted]),
        min_p=torch.tensor([one.min_p for one in wanted]),
        seed=torch.from_numpy(
            np.array([one.seed for one in wanted], dtype=np.uint64).view(np.int64)
        ),
        position=torch.tensor(positions, dtype=torch.int32),
    )
    ids = torch.full((rows,), UNTOUCHED, dtype=torch.int32)
    finite = torch.full((rows,), UNTOUCHED, dtype=torch.int32)
    workspace = SamplingWorkspace.allocate(rows=rows, vocab=vocab, device=CPU)
    draw(values, params, ids, finite, workspace)
    return ids.tolist(), finite.tolist()


def expected(row: torch.Tensor, params: SamplingParams, position: int) -> int:
    if params.greedy:
        return int(row.argmax())
    token = draw_on_cpu(filter_row(row.numpy(), params), params.seed, position)
    return -1 if token is None else token


@triton.jit
def _noise(out, seed, position, quads: tl.constexpr):
    quad = tl.arange(0, quads)
    words = random_words(
        tl.load(seed).to(tl.uint64, bitcast=True), position.to(tl.uint64), quad.to(tl.uint64)
    )
    to = out + quad[:, None] * 4 + tl.arange(0, 4)[None, :]
    tl.store(to, gumbel(words))


@pytest.mark.parametrize("seed", [0, 1234567, 2**63 + 11, 2**64 - 1])
def test_noise_is_the_cpu_s(seed: int) -> None:
    out = torch.empty(64, dtype=torch.float64)
    bits = torch.from_numpy(np.array([seed], dtype=np.uint64).view(np.int64))
    _noise[(1,)](out, bits, 77, quads=16)
    np.testing.assert_allclose(out.numpy(), Noise(seed, 77, 64).at(np.arange(64)), rtol=1e-14)


def test_the_likeliest_token_is_the_lowest_of_equals() -> None:
    values = logits(3, TILE + 100)
    values[0, [7, TILE + 3]] = 50.0
    values[2, TILE + 99] = 50.0
    wide = torch.zeros(3, TILE + 164)  # rows may lie further apart than they are long
    wide[:, :-64] = values
    wide[:, -64:] = 99.0
    ids, finite = torch.empty(2, 3, dtype=torch.int32)
    workspace = SamplingWorkspace.allocate(rows=3, vocab=TILE + 100, device=CPU)
    likeliest(wide[:, :-64], ids, finite, workspace)
    assert ids.tolist() == [7, int(values[1].argmax()), TILE + 99]
    assert finite.tolist() == [1, 1, 1]


@pytest.mark.parametrize("fault", [float("nan"), float("inf"), float("-inf")])
def test_a_row_that_is_not_finite_is_told_from_its_neighbours(fault: float) -> None:
    values = logits(2, TILE + 5)
    values[1, TILE + 1] = fault
    ids, finite = torch.empty(2, 2, dtype=torch.int32)
    workspace = SamplingWorkspace.allocate(rows=2, vocab=TILE + 5, device=CPU)
    likeliest(values, ids, finite, workspace)
    assert finite.tolist() == [1, 0]
    assert ids[0] == values[0].argmax()


FILTERS = [
    SamplingParams(max_tokens=1),
    SamplingParams(max_tokens=1, temperature=0.0),
    SamplingParams(max_tokens=1, temperature=0.3, seed=2**64 - 5),
    SamplingParams(max_tokens=1, top_k=1),
    SamplingParams(max_tokens=1, top_k=40, temperature=1.7),
    SamplingParams(max_tokens=1, top_p=0.9),
    SamplingParams(max_tokens=1, top_p=0.2, temperature=2.5),
    SamplingParams(max_tokens=1, min_p=0.05),
    SamplingParams(max_tokens=1, top_k=100, top_p=0.7, min_p=0.01, temperature=0.8),
    SamplingParams(max_tokens=1, top_k=10**6, top_p=0.99),
]


@pytest.mark.parametrize("spread", [0.01, 3.0], ids=["flat", "peaked"])
def test_draws_under_every_filter_are_the_cpu_s(spread: float) -> None:
    values = logits(len(FILTERS), TILE + 900, spread)
    positions = [1000 * row for row in range(len(FILTERS))]
    ids, finite = choose(values, FILTERS, positions)
    assert ids == [expected(*case) for case in zip(values, FILTERS, positions, strict=True)]
    assert finite == [1] * len(FILTERS)


def test_a_vocabulary_larger_than_a_block() -> None:
    values = logits(3, ROW_BLOCK + 333, 0.5)
    wanted = [FILTERS[4], FILTERS[5], FILTERS[8]]
    ids, _ = choose(values, wanted, [1, 2, 3])
    assert ids == [expected(*case) for case in zip(values, wanted, [1, 2, 3], strict=True)]


def test_filters_reach_far_below_the_likeliest_where_they_must() -> None:
    values = torch.full((8, 4000), -14.0)
    values[:, :2000] = -13.0
    values[:, 123] = 0.0
    # seeds whose noise lifts a token of the tail above the likeliest
    lifted = [seed for seed in range(1000) if draw_on_cpu(values[0].numpy(), seed, 5) != 123]
    limits = [SamplingParams(max_tokens=1, top_k=10), SamplingParams(max_tokens=1, top_p=0.999)]
    wanted = [replace(one, seed=seed) for one, seed in zip(limits * 4, lifted, strict=True)]
    ids, _ = choose(values, wanted, [5] * 8)
    assert ids == [expected(row, one, 5) for row, one in zip(values, wanted, strict=True)]
    assert {token == 123 for token in ids} == {True, False}  # what a filter dropped, and what not


def test_what_ties_at_a_border_stays() -> None:
    values = torch.full((1, 64), -5.0)
    values[0, [3, 9, 20]] = 2.0
    top_2 = SamplingParams(max_tokens=1, top_k=2)
    drawn, _ = choose(values.expand(16, 64), [top_2] * 16, range(16))
    assert set(drawn) == {3, 9, 20}


def test_forbidden_tokens_are_never_drawn_and_a_row_of_them_has_none() -> None:
    never = float("-inf")
    values = torch.full((3, 100), never)
    values[0, 42] = 0.0
    plain, filtered = FILTERS[0], FILTERS[8]
    assert choose(values, [plain, plain, filtered], [1, 2, 3])[0] == [42, -1, -1]
    greedy = FILTERS[1]
    assert choose(values, [greedy, greedy, greedy], [1, 2, 3])[0] == [42, -1, -1]


def test_padding_rows_are_left_alone() -> None:
    values = logits(3, 200)
    ids, finite = choose(values, [FILTERS[0], FILTERS[1], FILTERS[5]], [5, -1, -1])
    assert ids == [expected(values[0], FILTERS[0], 5), UNTOUCHED, UNTOUCHED]
    assert finite == [1, UNTOUCHED, UNTOUCHED]


def test_bfloat16_logits_are_read_as_they_are() -> None:
    values = logits(1, 300).bfloat16()
    params = FILTERS[4]
    assert choose(values, [params], [9])[0] == [expected(values[0].float(), params, 9)]
