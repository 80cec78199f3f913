"""Rotary frequencies against transformers' formulas in torch, for every kind of scaling."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from baton.engine.models.frequencies import inverse_frequencies
from baton.model.config import LinearRopeScaling, Llama3RopeScaling
from support.random_model import CONFIG

LLAMA3 = Llama3RopeScaling(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=8_192
)
LAST_BIT = 2.0**-23


def in_torch(theta: float, head_size: int) -> torch.Tensor:
    return 1.0 / theta ** (torch.arange(0, head_size, 2, dtype=torch.int64).float() / head_size)


@pytest.mark.parametrize("head_size", [16, 64, 80, 128])
@pytest.mark.parametrize("theta", [1e4, 1e5, 5e5, 1e6])
def test_frequencies_are_torchs_but_for_a_last_bit(theta: float, head_size: int) -> None:
    found = inverse_frequencies(replace(CONFIG, rope_theta=theta, head_size=head_size))
    assert found.dtype == np.float32
    assert torch.allclose(
        torch.from_numpy(found), in_torch(theta, head_size), rtol=LAST_BIT, atol=0.0
    )


def test_smollm2s_are_torchs_exactly() -> None:
    found = inverse_frequencies(replace(CONFIG, rope_theta=1e5, head_size=64))
    assert np.array_equal(found, in_torch(1e5, 64).numpy())


def test_linear_scaling_and_divisors_slow_every_wave() -> None:
    plain = inverse_frequencies(CONFIG)
    linear = inverse_frequencies(replace(CONFIG, rope_scaling=LinearRopeScaling(4.0)))
    assert np.array_equal(linear, plain / np.float32(4))
    divisors = tuple(float(index + 1) for index in range(len(plain)))
    divided = inverse_frequencies(replace(CONFIG, rope_divisors=divisors))
    assert np.array_equal(divided, plain / np.arange(1, len(plain) + 1, dtype=np.float32))


def test_llama3_scaling_slows_long_waves_keeps_short_ones_and_blends_between() -> None:
    config = replace(CONFIG, rope_theta=5e5, head_size=128)
    plain = inverse_frequencies(config).astype(np.float64)
    found = inverse_frequencies(replace(config, rope_scaling=LLAMA3))
    waves = 2 * math.pi / plain
    smooth = np.clip((8_192 / waves - 1.0) / (4.0 - 1.0), 0.0, 1.0)
    assert np.allclose(found, plain * (smooth + (1 - smooth) / 8.0), rtol=1e-6, atol=0.0)
    assert (smooth == 0).any()
    assert (smooth == 1).any()
    assert ((smooth > 0) & (smooth < 1)).any()
