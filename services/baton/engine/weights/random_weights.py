"""Seeded random weights of any shape, to test and to measure shapes without a model file.

Knows no files. The values are scaled so that activations keep their size from layer to layer.
"""

import numpy as np

from baton.engine.weights.parts import Floats, Part, part_shape
from baton.model.config import ModelConfig

NORM_SPREAD = np.float32(0.1)  # around 1, as in trained models
BIAS_SPREAD = np.float32(0.1)


class RandomWeights:
    """Each array depends on seed, part and layer alone, not on the order of fetching."""

    def __init__(self, config: ModelConfig, seed: int) -> None:
        self._config, self._seed = config, seed

    def fetch(self, part: Part, layer: int | None = None) -> Floats:
        """A float32 array: matrices of variance 1 / in, norms around 1, biases around 0."""
        place = 0 if layer is None else layer + 1
        generator = np.random.default_rng((self._seed, place, part.value))
        values = generator.standard_normal(part_shape(part, self._config), np.float32)
        if values.ndim > 1:
            values *= np.float32(values.shape[-1] ** -0.5)
        elif "BIAS" in part.name:
            values *= BIAS_SPREAD
        else:
            values *= NORM_SPREAD
            values += 1
        return values
