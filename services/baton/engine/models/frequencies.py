"""How fast rotary position embedding turns, with the scalings of the supported families.

Knows configurations; knows no positions and no layers.
"""

import math

import numpy as np
from numpy.typing import NDArray

from baton.model.config import LinearRopeScaling, Llama3RopeScaling, ModelConfig

Frequencies = NDArray[np.float32]
ONE = np.float32(1.0)


def inverse_frequencies(config: ModelConfig) -> Frequencies:
    """[head_size / 2] radians per position, scaled as the configuration says.

    Each operation is rounded to float32, as transformers does it. The power is taken in float64
    first: numpy's own of float32 errs by more than the last bit.
    """
    exponents = np.arange(0, config.head_size, 2, dtype=np.float32) / np.float32(config.head_size)
    powers = np.power(np.float64(config.rope_theta), exponents.astype(np.float64))
    frequencies: Frequencies = ONE / powers.astype(np.float32)
    if config.rope_divisors is not None:
        frequencies /= np.array(config.rope_divisors, np.float32)
    match config.rope_scaling:
        case LinearRopeScaling(factor=factor):
            return frequencies / np.float32(factor)
        case Llama3RopeScaling():
            return _llama3(frequencies, config.rope_scaling)
        case None:
            return frequencies


def _llama3(frequencies: Frequencies, scaling: Llama3RopeScaling) -> Frequencies:
    """Long waves divided by the factor, short ones kept, those between blended."""
    factor = np.float32(scaling.factor)
    wavelengths = np.float32(2 * math.pi) / frequencies
    low = np.float32(scaling.original_context_length / scaling.low_freq_factor)
    high = np.float32(scaling.original_context_length / scaling.high_freq_factor)
    slowed = np.where(wavelengths > low, frequencies / factor, frequencies)
    blend = np.float32(scaling.original_context_length) / wavelengths
    blend = (blend - np.float32(scaling.low_freq_factor)) / np.float32(
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    blended = (ONE - blend) * slowed / factor + blend * slowed
    between = (wavelengths >= high) & (wavelengths <= low)
    return np.where(between, blended, slowed)
