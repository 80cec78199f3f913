"""The memory that all layers of a step share: made once, for the largest step there will be.

Nothing is allocated while a step runs, so any part of it may be captured in a graph, and steps of
any mixture fit by construction. Knows sizes and the forms linear layers take their rows in; knows
no weights.
"""

import torch

from baton.engine.cuda.kernels.activation import silu_mul
from baton.engine.cuda.kernels.attention import SplitWorkspace
from baton.engine.cuda.kernels.attention_plan import few_rows, parts_needed, plan_splits
from baton.engine.cuda.kernels.norm import add_rms_norm
from baton.engine.cuda.linear import Activations, DeviceLinear, round_rows
from baton.model.config import ModelConfig


class LinearInput:
    """Where rows become what a linear layer takes."""

    def __init__(
        self, linear: DeviceLinear, rows_max: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """`dtype`: of plain rows."""
        shape = (rows_max, linear.inputs)
        self.plain = torch.zeros(shape, dtype=dtype, device=device)
        self._rotated = linear.rotated
        self._levels: Activations | None = None
        if linear.takes.dtype is not None:
            self._levels = Activations(
                torch.zeros(shape, dtype=linear.takes.dtype, device=device),
                torch.zeros(rows_max, dtype=torch.float32, device=device),
            )

    def normed(
        self,
        delta: torch.Tensor | None,
        residual: torch.Tensor,
        weight: torch.Tensor,
        eps: float,
    ) -> Activations:
        """residual [T, inputs] += delta; its norm, in the layer's form."""
        rows = len(residual)
        levels = self._some_levels(rows)
        if levels is not None and self._rotated == 1:  # rounded in the same kernel
            add_rms_norm(delta, residual, weight, eps, levels.values, levels.scales)
            return levels
        add_rms_norm(delta, residual, weight, eps, self.plain[:rows])
        return self.taken(rows)

    def gated(self, gate_up: torch.Tensor) -> Activations:
        """gate_up [T, 2 * inputs] -> silu(gate) * up, in the layer's form."""
        rows = len(gate_up)
        levels = self._some_levels(rows)
        if levels is not None and self._rotated == 1:
            silu_mul(gate_up, levels.values, levels.scales)
            return levels
        silu_mul(gate_up, self.plain[:rows])
        return self.taken(rows)

    def taken(self, rows: int) -> Activations:
        """The first rows of `plain`, in the layer's form."""
        levels = self._some_levels(rows)
        if levels is None:
            return Activations(self.plain[:rows])
        return round_rows(self.plain[:rows], levels, rotated=self._rotated)

    def _some_levels(self, rows: int) -> Activations | None:
        levels = self._levels
        if levels is None or levels.scales is None:
            return None
        return Activations(levels.values[:rows], levels.scales[:rows])


def split_parts(config: ModelConfig, sequences_max: int, processors: int) -> int:
    """The most places that splits of any step need."""
    heads, kv_heads = config.heads, config.kv_heads
    few = few_rows(heads, kv_heads)
    return max(
        parts_needed(count, few, heads, kv_heads, plan_splits(count, kv_heads, processors))
        for count in range(1, sequences_max + 1)
    )


def split_workspace(
    config: ModelConfig, sequences_max: int, processors: int, device: torch.device
) -> SplitWorkspace:
    parts = max(1, split_parts(config, sequences_max, processors))
    return SplitWorkspace.allocate(parts=parts, head_size=config.head_size, device=device)
