"""Rotary position embedding in the half-split order, with the scalings of the supported families.

Knows frequencies and positions; knows nothing of layers. Angles are worked out once per step.
"""

import math

import torch

from baton.model.config import LinearRopeScaling, Llama3RopeScaling, ModelConfig


def inverse_frequencies(config: ModelConfig) -> torch.Tensor:
    """[head_size / 2] float32, scaled as the configuration says."""
    exponents = torch.arange(0, config.head_size, 2, dtype=torch.float32) / config.head_size
    frequencies = 1.0 / (config.rope_theta**exponents)
    if config.rope_divisors is not None:
        frequencies = frequencies / torch.tensor(config.rope_divisors, dtype=torch.float32)
    match config.rope_scaling:
        case LinearRopeScaling(factor=factor):
            return frequencies / factor
        case Llama3RopeScaling():
            return _llama3(frequencies, config.rope_scaling)
        case None:
            return frequencies


def _llama3(frequencies: torch.Tensor, scaling: Llama3RopeScaling) -> torch.Tensor:
    """Long waves divided by the factor, short ones kept, those between blended."""
    wavelengths = 2 * math.pi / frequencies
    low = scaling.original_context_length / scaling.low_freq_factor
    high = scaling.original_context_length / scaling.high_freq_factor
    slowed = torch.where(wavelengths > low, frequencies / scaling.factor, frequencies)
    blend = (scaling.original_context_length / wavelengths - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    blended = (1 - blend) * slowed / scaling.factor + blend * slowed
    between = (wavelengths >= high) & (wavelengths <= low)
    return torch.where(between, blended, slowed)


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
