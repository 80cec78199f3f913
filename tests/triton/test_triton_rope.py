"""Queries leave turned as the CPU's decoder turns them; keys and values lie at their slots."""

from dataclasses import dataclass

import pytest
import torch
from baton.engine.cuda.kernels.rope import KvScales, rotate_and_store
from baton.engine.models.rotary import Rotation
from torch.nn import functional

CONTEXT, BLOCKS, EPS = 40, 6, 1e-6


@dataclass(frozen=True)
class Shape:
    heads: int
    kv_heads: int
    head_size: int
    block_size: int = 16


SHAPES = [Shape(9, 3, 64), Shape(2, 2, 96), Shape(12, 1, 128, block_size=32)]


@dataclass
class Stored:
    """What one call left, of the rows of `POSITIONS`."""

    q: torch.Tensor  # [T, heads, head_size]
    keys: torch.Tensor  # [blocks, block_size, kv_heads, head_size]
    values: torch.Tensor
    scales: KvScales | None


POSITIONS = torch.tensor([0, 39, 7, 3], dtype=torch.int32)
SLOTS = torch.tensor([5, 95, -1, 33], dtype=torch.int32)  # the third row is padding
UNTOUCHED = 3.0


def frequencies(shape: Shape) -> torch.Tensor:
    return 10_000.0 ** (-torch.arange(0, shape.head_size, 2).float() / shape.head_size)


def projected(shape: Shape) -> torch.Tensor:
    generator = torch.Generator().manual_seed(shape.heads)
    width = (shape.heads + 2 * shape.kv_heads) * shape.head_size
    return torch.randn(len(POSITIONS), width, generator=generator)


def norm_weights(shape: Shape) -> torch.Tensor:
    return torch.rand(2, shape.head_size, generator=torch.Generator().manual_seed(1)) + 0.5


def store(
    shape: Shape,
    qkv: torch.Tensor,
    dtype: torch.dtype = torch.float32,
    qk_norm: torch.Tensor | None = None,
) -> Stored:
    place = (BLOCKS, shape.block_size, shape.kv_heads)
    keys, values = torch.full((2, *place, shape.head_size), UNTOUCHED).to(dtype)
    scales = None
    if dtype.itemsize == 1:
        key_scales, value_scales = torch.full((2, *place), UNTOUCHED)
        scales = (key_scales, value_scales)
    angles = torch.arange(CONTEXT).float()[:, None] * frequencies(shape)
    cos_sin = torch.cat((angles.cos(), angles.sin()), 1)
    q = torch.empty(len(qkv), shape.heads, shape.head_size, dtype=qkv.dtype)
    rotate_and_store(qkv, POSITIONS, cos_sin, SLOTS, keys, values, scales, q, qk_norm, EPS)
    return Stored(q, keys, values, scales)


def expected(
    shape: Shape, qkv: torch.Tensor, qk_norm: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q, k and v [T, heads, head_size] as the CPU's decoder makes them."""
    heads = qkv.view(len(qkv), -1, shape.head_size)
    turned = heads[:, : shape.heads + shape.kv_heads]
    if qk_norm is not None:
        weights = qk_norm.repeat_interleave(torch.tensor([shape.heads, shape.kv_heads]), 0)
        turned = functional.rms_norm(turned, (shape.head_size,), None, EPS) * weights
    turned = Rotation(POSITIONS, frequencies(shape))(turned)
    return turned[:, : shape.heads], turned[:, shape.heads :], heads[:, turned.shape[1] :]


def written(cache: torch.Tensor) -> torch.Tensor:
    """The vectors at the slots of real rows [3, kv_heads, ...]."""
    return cache.flatten(0, 1)[SLOTS[SLOTS >= 0].long()]


def unwritten(cache: torch.Tensor) -> torch.Tensor:
    others = torch.ones(cache.shape[0] * cache.shape[1], dtype=torch.bool)
    others[SLOTS[SLOTS >= 0].long()] = False
    return cache.flatten(0, 1)[others]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("normed", [False, True])
def test_queries_leave_turned_and_keys_and_values_lie_at_their_slots(
    shape: Shape, normed: bool
) -> None:
    qkv, qk_norm = projected(shape), norm_weights(shape) if normed else None
    stored = store(shape, qkv, qk_norm=qk_norm)
    q, k, v = expected(shape, qkv, qk_norm)
    torch.testing.assert_close(stored.q, q, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(written(stored.keys), k[SLOTS >= 0], rtol=1e-5, atol=1e-5)
    assert torch.equal(written(stored.values), v[SLOTS >= 0])
    for side in (stored.keys, stored.values):
        assert (unwritten(side) == UNTOUCHED).all()


def test_bfloat16_is_rounded_once() -> None:
    shape = SHAPES[0]
    qkv = projected(shape).bfloat16()
    stored = store(shape, qkv, torch.bfloat16)
    q, k, v = expected(shape, qkv.float())
    torch.testing.assert_close(stored.q, q.bfloat16(), rtol=2**-8, atol=1e-6)
    torch.testing.assert_close(
        written(stored.keys), k[SLOTS >= 0].bfloat16(), rtol=2**-8, atol=1e-6
    )
    assert torch.equal(written(stored.values), v[SLOTS >= 0].bfloat16())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_8_bit_vectors_have_a_scale_each(shape: Shape, dtype: torch.dtype) -> None:
    qkv = projected(shape)
    stored = store(shape, qkv, dtype)
    _, k, v = expected(shape, qkv)
    assert stored.scales is not None
    largest = 127.0 if dtype is torch.int8 else torch.finfo(dtype).max
    for side, scales, exact in zip(
        (stored.keys, stored.values), stored.scales, (k, v), strict=True
    ):
        exact = exact[SLOTS >= 0]
        torch.testing.assert_close(written(scales), exact.abs().amax(-1) / largest)
        # half a unit of int8; of fp8 half a step of the largest numbers, 448 and 416
        error = written(side).float() * written(scales)[..., None] - exact
        step = 0.5001 if dtype is torch.int8 else 16.001
        assert (error.abs() <= step * written(scales)[..., None]).all()
        assert (unwritten(side).float() == UNTOUCHED).all()
        assert (unwritten(scales) == UNTOUCHED).all()
