"""Seeded random weights of any shape, to test and to measure shapes without a model file.

Knows no files. The values are scaled so that activations keep their size from layer to layer.
"""

import numpy as np

from baton.engine.weights.parts import ExpertPart, Floats, Part, expert_shape, part_shape
from baton.model.config import ModelConfig

NORM_SPREAD = np.float32(0.1)  # around 1, as in trained models
BIAS_SPREAD = np.float32(0.1)


class RandomWeights:
    """Each array depends on seed, part, layer and expert alone, not on the order of fetching."""

    def __init__(self, config: ModelConfig, seed: int) -> None:
        self._config, self._seed = config, seed

    def fetch(self, part: Part, layer: int | None = None) -> Floats:
        """A float32 array: matrices of variance 1 / in, norms around 1, biases around 0."""
        values = self._drawn(part_shape(part, self._config), layer, part.value)
        if values.ndim > 1:
            return values
        if "BIAS" in part.name:
            return values * BIAS_SPREAD
        return values * NORM_SPREAD + 1

    def fetch_expert(self, part: ExpertPart, layer: int, expert: int) -> Floats:
        """A float32 matrix of variance 1 / in."""
        return self._drawn(expert_shape(part, self._config), layer, part.value, expert)

    def _drawn(self, shape: tuple[int, ...], layer: int | None, *place: int) -> Floats:
        """Of variance 1, matrices of variance 1 / in."""
        generator = np.random.default_rng((self._seed, 0 if layer is None else layer + 1, *place))
        values = generator.standard_normal(shape, np.float32)
        if values.ndim > 1:
            values *= np.float32(shape[-1] ** -0.5)
        return values
