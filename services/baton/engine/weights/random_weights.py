"""Seeded random weights of any shape, to test and to measure shapes without a model file.

Knows no files. The values are scaled so that activations keep their size from layer to layer.
"""

import torch

from baton.engine.weights.parts import Part, part_shape
from baton.model.config import ModelConfig

NORM_SPREAD = 0.1  # around 1, as in trained models
BIAS_SPREAD = 0.1


class RandomWeights:
    """Each tensor depends on seed, part and layer alone, not on the order of fetching."""

    def __init__(self, config: ModelConfig, seed: int) -> None:
        self._config, self._seed = config, seed

    def fetch(self, part: Part, layer: int | None = None) -> torch.Tensor:
        """A float32 tensor: matrices of variance 1 / in, norms around 1, biases around 0."""
        place = 0 if layer is None else layer + 1
        key = (self._seed * 1_000_003 + place) * len(Part) + part.value
        generator = torch.Generator().manual_seed(key % (1 << 63))
        tensor = torch.randn(part_shape(part, self._config), generator=generator)
        if tensor.ndim == 2:
            return tensor.mul_(tensor.shape[1] ** -0.5)
        return tensor.mul_(BIAS_SPREAD) if "BIAS" in part.name else tensor.mul_(NORM_SPREAD).add_(1)
