"""The feed-forward half of a decoder layer, on torch: one gated MLP, or a mixture of them.

Knows shapes and routing; knows nothing of attention, norms or where weights come from.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional

from baton.engine.quant.linear import Linear


class Mlp(Protocol):
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[T, hidden] -> [T, hidden]; rows are independent."""
        ...


@dataclass(frozen=True, slots=True)
class GatedMlp:
    gate_up: Linear  # hidden -> 2 * intermediate
    down: Linear  # intermediate -> hidden

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(functional.silu(gate).mul_(up))


@dataclass(frozen=True, slots=True)
class ExpertMlp:
    """Each token goes to the experts its router rates highest; their outputs are added up by their
    shares. Tokens of one expert are computed together, in the order of the experts."""

    router: torch.Tensor  # [experts, hidden] float32: a rounded one would choose other experts
    experts: tuple[GatedMlp, ...]
    experts_per_token: int
    norm_topk_prob: bool

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        shares, chosen = self.route(x)
        out = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            rows, places = torch.where(chosen == index)
            if len(rows):
                out.index_add_(0, rows, expert(x[rows]) * shares[rows, places, None])
        return out

    def route(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[T, hidden] -> shares and experts, [T, experts_per_token] each."""
        ratings = functional.linear(x, self.router).softmax(-1)
        shares, chosen = ratings.topk(self.experts_per_token, dim=-1)
        if self.norm_topk_prob:
            shares = shares / shares.sum(-1, keepdim=True)
        return shares, chosen
