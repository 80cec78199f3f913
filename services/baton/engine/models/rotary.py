"""Rotary position embedding in the half-split order, on torch.

Knows frequencies and positions; knows nothing of layers. Angles are worked out once per step.
"""

import torch


class Rotation:
    """The rotation of a step's rows."""

    def __init__(self, positions: torch.Tensor, frequencies: torch.Tensor) -> None:
        """positions [T] integers, frequencies [head_size / 2]."""
        angles = positions.float()[:, None, None] * frequencies  # [T, 1, head_size / 2]
        cos, sin = angles.cos(), angles.sin()
        self._half = len(frequencies)
        self._cos = torch.cat((cos, cos), dim=-1)
        self._signed_sin = torch.cat((-sin, sin), dim=-1)

    def __call__(self, heads: torch.Tensor) -> torch.Tensor:
        """[T, heads, head_size] -> the same, each head turned by its row's angles."""
        return torch.addcmul(heads * self._cos, heads.roll(self._half, -1), self._signed_sin)
