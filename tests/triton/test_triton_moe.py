"""A mixture of experts in Triton's interpreter, against the CPU's own in float64.

The tables are checked for what they promise: every pair once, at its expert, whole tiles.
"""

import math
from dataclasses import replace

import pytest
import torch
from baton.engine.cuda.kernels.grouped_product import GroupedPlan, plan_grouped
from baton.engine.cuda.kernels.grouped_route import Routes, arrange, choose, tiles_max
from baton.engine.cuda.linear import Workspace
from baton.engine.cuda.moe import DeviceMoe, MoeBuffers, pack_experts, pack_router
from baton.engine.quant.quantization import Quantization
from baton.engine.weights.parts import ExpertPart
from baton.model.config import ModelConfig
from support.random_model import MIXTURE

CPU = torch.device("cpu")


def shape(experts: int, per_token: int, *, normed: bool = True) -> ModelConfig:
    return replace(
        MIXTURE,
        hidden_size=96,
        experts=experts,
        experts_per_token=per_token,
        expert_intermediate_size=40,
        norm_topk_prob=normed,
    )


def drawn(*size: int, seed: int) -> torch.Tensor:
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    return tensor.mul_(1 / math.sqrt(size[-1]))


class Mixture:
    """The same experts twice: on the device's kernels, and spelled out."""

    def __init__(self, config: ModelConfig, scheme: Quantization, rows_max: int = 64) -> None:
        experts, hidden, inner = (
            config.experts,
            config.hidden_size,
            config.expert_intermediate_size,
        )
        self.config = config
        self.router = drawn(experts, hidden, seed=1) * 8
        self.gates, self.ups = (
            drawn(experts, inner, hidden, seed=2),
            drawn(experts, inner, hidden, seed=3),
        )
        self.downs = drawn(experts, hidden, inner, seed=4)
        stacks = {
            ExpertPart.GATE: self.gates,
            ExpertPart.UP: self.ups,
            ExpertPart.DOWN: self.downs,
        }
        self.dtype = torch.float32 if scheme is Quantization.NONE else torch.bfloat16
        if scheme is not Quantization.NONE:  # what a published model holds
            self.router = self.router.bfloat16().float()
        workspace = Workspace(CPU, 8)
        buffers = MoeBuffers(config, scheme, rows_max=rows_max, dtype=self.dtype, device=CPU)
        self.device = DeviceMoe(
            config,
            pack_router(self.router, scheme, CPU, workspace),
            pack_experts(lambda part, expert: stacks[part][expert], config, scheme, CPU),
            buffers,
        )

    def __call__(self, x: torch.Tensor, slots: torch.Tensor | None = None) -> torch.Tensor:
        out = torch.full(x.shape, 7.0, dtype=self.dtype)
        self.device(x.to(self.dtype), out, slots)
        return out

    def expected(self, x: torch.Tensor) -> torch.Tensor:
        """[T, hidden] float64."""
        x = x.to(self.dtype).double()
        shares, chosen = (
            (x @ self.router.double().t()).softmax(-1).topk(self.config.experts_per_token)
        )
        if self.config.norm_topk_prob:
            shares /= shares.sum(-1, keepdim=True)
        gate = torch.einsum("th,teih->tei", x, self.gates.double()[chosen])
        up = torch.einsum("th,teih->tei", x, self.ups.double()[chosen])
        inner = torch.nn.functional.silu(gate) * up
        return torch.einsum("tei,tehi,te->th", inner, self.downs.double()[chosen], shares)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("scheme", "tolerance"),
    [
        (Quantization.NONE, 1e-5),
        (Quantization.BF16, 1e-2),
        (Quantization.FP8, 7e-2),
        (Quantization.INT8, 3e-2),
        (Quantization.INT8_WEIGHT_ONLY, 2e-2),
        (Quantization.INT4_WEIGHT_ONLY, 2e-1),
    ],
)
def test_a_mixture_is_the_sum_of_its_experts(scheme: Quantization, tolerance: float) -> None:
    mixture, x = Mixture(shape(5, 2), scheme), drawn(7, 96, seed=9) * 8
    assert error(mixture(x), mixture.expected(x)) < tolerance


@pytest.mark.parametrize(
    ("rows", "experts", "per_token", "normed"),
    [(1, 8, 2, True), (1, 6, 3, False), (40, 4, 1, True), (70, 3, 2, False)],
)
def test_at_every_size_of_batch(rows: int, experts: int, per_token: int, normed: bool) -> None:
    """From a tile for each pair over small tiles to large ones; 70 rows do not fit at once."""
    mixture = Mixture(shape(experts, per_token, normed=normed), Quantization.NONE)
    x = drawn(rows, 96, seed=rows) * 8
    assert error(mixture(x), mixture.expected(x)) < 1e-5


@pytest.mark.parametrize("rows", [1, 6])
def test_padding_costs_nobody_and_comes_out_as_zeros(rows: int) -> None:
    mixture, x = Mixture(shape(16, 4), Quantization.NONE), drawn(rows + 2, 96, seed=3) * 8
    x[rows:] = float("nan")
    slots = torch.tensor([5] * rows + [-1, -1], dtype=torch.int32)
    found = mixture(x, slots)
    assert error(found[:rows], mixture.expected(x[:rows])) < 1e-5
    assert not found[rows:].any()


def test_a_bad_row_stays_alone() -> None:
    mixture, x = Mixture(shape(5, 2), Quantization.NONE), drawn(4, 96, seed=5) * 8
    expected = mixture.expected(x)
    x[2, 3] = float("nan")
    found = mixture(x)
    assert found[2].isnan().all()
    assert error(found[[0, 1, 3]], expected[[0, 1, 3]]) < 1e-5


@pytest.mark.parametrize(("pairs", "experts", "tile_rows"), [(1, 1, 16), (37, 5, 16), (600, 3, 64)])
def test_tables_hold_every_pair_once_at_its_expert(
    pairs: int, experts: int, tile_rows: int
) -> None:
    tiles = tiles_max(pairs, experts, tile_rows)
    generator = torch.Generator().manual_seed(pairs)
    chosen = torch.randint(-1, experts, (pairs,), dtype=torch.int32, generator=generator)
    routes = Routes(
        shares=torch.empty(pairs),
        chosen=chosen,
        counts=torch.full((experts,), 99, dtype=torch.int32),
        order=torch.full((tiles * tile_rows,), 99_999, dtype=torch.int32),
        tile_experts=torch.full((tiles,), 99, dtype=torch.int32),
    )
    arrange(routes, pairs=pairs, tile_rows=tile_rows)
    found = []
    for tile, expert in enumerate(routes.tile_experts.tolist()):
        if expert < 0:
            continue
        there = [p for p in routes.order.view(tiles, -1)[tile].tolist() if p >= 0]
        assert there
        assert {int(chosen[pair]) for pair in there} == {expert}
        found += there
    assert found == sorted(found, key=lambda pair: (int(chosen[pair]), pair))
    assert sorted(found) == [pair for pair in range(pairs) if chosen[pair] >= 0]


def test_equal_ratings_choose_the_lower_expert() -> None:
    routes = Routes(*(torch.empty(8, dtype=kind) for kind in (torch.float32, *[torch.int32] * 4)))
    ratings = torch.tensor([[0.0, 1.0, 1.0, 1.0, -1.0], [2.0, 2.0, 2.0, 2.0, 2.0]])
    choose(ratings, None, routes, experts_per_token=2, normed=True)
    assert routes.chosen[:4].tolist() == [1, 2, 0, 1]
    assert routes.shares[:4].tolist() == [0.5] * 4


def test_tiles_grow_with_the_pairs_of_an_expert() -> None:
    def plan(pairs: int) -> GroupedPlan:
        return plan_grouped(pairs, 128, weight_bits=16)

    assert [plan(pairs).lone for pairs in (8, 32, 33)] == [True, True, False]
    assert [plan(pairs).tile_rows for pairs in (512, 8_000, 16_384)] == [16, 64, 128]
