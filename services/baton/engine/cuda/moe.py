"""A mixture of experts on the device: router, two grouped products, and the sum over experts.

Knows routing and packed weights; knows nothing of the layer around it. All of its memory is made
once, for a bounded number of rows: more are computed in turns.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from baton.engine.cuda.kernels.activation import silu_mul
from baton.engine.cuda.kernels.grouped_product import (
    TILE_ROWS,
    GroupedPlan,
    add_up,
    multiply_grouped,
    plan_grouped,
)
from baton.engine.cuda.kernels.grouped_route import Routes, arrange, choose, tiles_max
from baton.engine.cuda.kernels.matmul_product import Factors
from baton.engine.cuda.linear import (
    Activations,
    PackedLinear,
    PackedWeight,
    Workspace,
    activation_kind,
    round_rows,
)
from baton.engine.cuda.pack import pack_linear, pack_stacked
from baton.engine.quant.quantization import Quantization
from baton.engine.weights.parts import ExpertPart
from baton.model.config import ModelConfig

MOE_ROWS_MAX = 2_048
"""Tokens computed at once: with eight experts each, 16,384 pairs, some 130 of each of 128 experts,
which is a full tile. More rows would only take more memory."""


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """The experts of a layer, one after the other in every tensor."""

    gate_up: PackedWeight  # [experts * 2 * intermediate, hidden]; of each: gates, then ups
    down: PackedWeight  # [experts * hidden, intermediate]


class MoeBuffers:
    """What all mixtures of a model share while one of them runs: made once."""

    def __init__(
        self,
        config: ModelConfig,
        scheme: Quantization,
        *,
        rows_max: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """`dtype`: of the rows between products, bfloat16 or float32."""
        self.rows_max = min(rows_max, MOE_ROWS_MAX)
        pairs, experts = self.rows_max * config.experts_per_token, config.experts
        hidden, inner = config.hidden_size, config.expert_intermediate_size
        places = max(rows * tiles_max(pairs, experts, rows) for rows in TILE_ROWS)

        def numbers(*shape: int) -> torch.Tensor:
            return torch.empty(shape, dtype=torch.int32, device=device)

        def rows(count: int, width: int, kind: torch.dtype = dtype) -> torch.Tensor:
            # zeros: what padding leaves of them is rounded and gated with the rest
            return torch.zeros(count, width, dtype=kind, device=device)

        self.ratings = rows(self.rows_max, experts, torch.float32)
        self.routes = Routes(
            shares=torch.empty(pairs, dtype=torch.float32, device=device),
            chosen=numbers(pairs),
            counts=numbers(experts),
            order=numbers(places),
            tile_experts=numbers(tiles_max(pairs, experts, min(TILE_ROWS))),
        )
        self.gate_up = rows(pairs, 2 * inner)
        self.inner = rows(pairs, inner)
        self.outputs = rows(pairs, hidden)
        self.levels: tuple[Activations, Activations] | None = None
        levels = activation_kind(scheme).dtype
        if levels is not None:
            scales = torch.empty(self.rows_max + pairs, dtype=torch.float32, device=device)
            self.levels = (
                Activations(rows(self.rows_max, hidden, levels), scales[: self.rows_max]),
                Activations(rows(pairs, inner, levels), scales[self.rows_max :]),
            )


class DeviceMoe:
    """The feed-forward half of a layer of experts, from normed rows to rows."""

    def __init__(
        self,
        config: ModelConfig,
        router: PackedLinear,
        experts: ExpertWeights,
        buffers: MoeBuffers,
    ) -> None:
        self._config, self._router, self._experts = config, router, experts
        self._buffers = buffers

    def __call__(self, x: torch.Tensor, out: torch.Tensor, slots: torch.Tensor | None) -> None:
        """x [T, hidden] -> out [T, hidden], both of the buffers' type. `slots` [T] int32: rows of
        negative ones are padding, which costs no expert and comes out as zeros."""
        step = self._buffers.rows_max
        for first in range(0, len(x), step):
            rows = slice(first, first + step)
            self._some(x[rows], out[rows], None if slots is None else slots[rows])

    def _some(self, x: torch.Tensor, out: torch.Tensor, slots: torch.Tensor | None) -> None:
        config, buffers, experts = self._config, self._buffers, self._experts
        rows, pairs = len(x), len(x) * config.experts_per_token
        ratings = buffers.ratings[:rows]
        self._router(Activations(x), ratings)
        choose(
            ratings,
            slots,
            buffers.routes,
            experts_per_token=config.experts_per_token,
            normed=config.norm_topk_prob,
        )
        plan = plan_grouped(pairs, config.experts, weight_bits=experts.gate_up.bits)
        if not plan.lone:
            arrange(buffers.routes, pairs=pairs, tile_rows=plan.tile_rows)
        gate_up, inner = buffers.gate_up[:pairs], buffers.inner[:pairs]
        outputs = buffers.outputs[:pairs]
        each = config.experts_per_token
        self._multiply(x, experts.gate_up, gate_up, plan, rows_of_pairs=each)
        silu_mul(gate_up, inner)
        self._multiply(inner, experts.down, outputs, plan, rows_of_pairs=1)
        add_up(outputs, slots, out)

    def _multiply(
        self,
        x: torch.Tensor,
        weight: PackedWeight,
        out: torch.Tensor,
        plan: GroupedPlan,
        *,
        rows_of_pairs: int,
    ) -> None:
        """The second product, whose rows are pairs, weighs each with its share."""
        shared = rows_of_pairs == 1
        rounded = Activations(x)
        if self._buffers.levels is not None:
            held = self._buffers.levels[shared]
            assert held.scales is not None
            into = Activations(held.values[: len(x)], held.scales[: len(x)])
            rounded = round_rows(x, into, rotated=weight.rotated)
        multiply_grouped(
            rounded.values,
            weight.values,
            Factors(rounded.scales, weight.scales, weight.minima),
            out,
            self._buffers.routes,
            plan=plan,
            rows_of_pairs=rows_of_pairs,
            shared=shared,
        )


def pack_router(
    weight: torch.Tensor, scheme: Quantization, device: torch.device, workspace: Workspace
) -> PackedLinear:
    """weight [experts, hidden] float32. It is never rounded below bfloat16: that would send tokens
    to other experts, and it is small."""
    near = scheme if scheme is Quantization.NONE else Quantization.BF16
    return pack_linear(weight, None, near, device, workspace)


def pack_experts(
    fetch: Callable[[ExpertPart, int], torch.Tensor],
    config: ModelConfig,
    scheme: Quantization,
    device: torch.device,
) -> ExpertWeights:
    """`fetch`: the matrix of an expert in float32, wherever it lies. One is held at a time."""
    experts = range(config.experts)
    hidden, inner = config.hidden_size, config.expert_intermediate_size
    both = (ExpertPart.GATE, ExpertPart.UP)
    gate_up = (fetch(part, expert) for expert in experts for part in both)
    down = (fetch(ExpertPart.DOWN, expert) for expert in experts)
    return ExpertWeights(
        gate_up=pack_stacked(gate_up, config.experts * 2 * inner, hidden, scheme, device),
        down=pack_stacked(down, config.experts * hidden, inner, scheme, device),
    )
