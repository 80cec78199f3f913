"""Rounding to bfloat16 gives torch's bits, and float32 back where there is nothing to round."""

import numpy as np
import pytest
import torch
from baton.engine.weights.bfloat16 import CHUNK_VALUES, narrowed
from numpy.typing import NDArray

ONE = 0x3F80_0000
STEP = 0x1_0000  # from one bfloat16 to the next, in the bits of float32


def of_torch(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    return torch.from_numpy(values).bfloat16().view(torch.uint16).numpy()


def floats(*bits: int) -> NDArray[np.float32]:
    return np.array(bits, np.uint32).view(np.float32)


def test_numbers_of_every_size_round_as_torch_rounds_them() -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 200_000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = values[~np.isnan(values)]
    assert np.array_equal(narrowed(values), of_torch(values))


@pytest.mark.parametrize("sign", [0, 0x8000_0000])
def test_of_two_as_near_the_even_one_is_taken_and_the_largest_become_infinite(sign: int) -> None:
    ties = (ONE + STEP // 2, ONE + STEP + STEP // 2, 0x7F7F_FFFF, 0x7F80_0000, 1, 0)
    found = narrowed(floats(*(sign | tie for tie in ties)))
    assert [int(it) for it in found] == [
        sign >> 16 | it for it in (0x3F80, 0x3F82, 0x7F80, 0x7F80, 0, 0)
    ]


@pytest.mark.parametrize("bits", [0x7F80_0001, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_nan_stays_nan(bits: int) -> None:
    assert np.isnan((narrowed(floats(bits)).astype(np.uint32) << 16).view(np.float32)).all()


def test_shapes_and_slices_are_kept_to_the_last_chunk() -> None:
    values = np.random.default_rng(2).standard_normal((3, CHUNK_VALUES // 2 + 1), np.float32)
    assert np.array_equal(narrowed(values), of_torch(values))
    assert np.array_equal(narrowed(values[:, ::2]), narrowed(values)[:, ::2])
