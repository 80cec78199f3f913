"""Linear layers of the kernels against torch, over odd shapes, in every scheme."""

import numpy as np
import pytest
import torch
from baton.engine.kernels.structs import Scheme
from baton.engine.quant.int4 import LEVEL_PARTS, Int4Linear, weight_levels
from baton.engine.quant.int4_weight_only import Int4WeightLinear
from baton.engine.quant.int8 import rotated
from baton.engine.quant.int8_weight_only import Int8WeightLinear
from support.kernels import PackedLinear
from torch.nn import functional

# (in, out): whole panels and not, inputs of whole steps and not
SHAPES = [(64, 96), (63, 33), (5, 1), (130, 64), (257, 40), (192, 70)]
ROWS = 17  # tiles of up to 12 rows, matrix registers of 16: every size occurs below
TOLERANCES = {
    Scheme.FLOAT32: 1e-5,
    Scheme.BFLOAT16: 8e-3,
    Scheme.INT8: 2e-2,
    Scheme.INT8_WEIGHT: 1.4e-2,
    Scheme.INT4_WEIGHT: 1.3e-1,
    Scheme.INT4: 1.3e-1,
}


def tensors(inner: int, outer: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """weight [outer, inner], bias [outer], x [ROWS, inner] with rows of very unlike size."""
    generator = torch.Generator().manual_seed(inner)
    weight = torch.randn(outer, inner, generator=generator) * inner**-0.5
    x = torch.randn(ROWS, inner, generator=generator) * torch.logspace(-2, 2, ROWS)[:, None]
    return weight, torch.randn(outer, generator=generator), x


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest error of a row, relative to the row's size."""
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())


def product_error(found: torch.Tensor, weight: torch.Tensor, x: torch.Tensor) -> float:
    """The largest error of a row, relative to what its product's size is on average: a lone sum may
    be near zero.
    """
    size = x.norm(dim=1) * weight.norm() / weight.shape[1] ** 0.5
    return float(((found - functional.linear(x, weight)).norm(dim=1) / size).max())


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize(("inner", "outer"), SHAPES)
def test_products_stay_within_the_rounding_of_their_scheme(
    scheme: Scheme, inner: int, outer: int
) -> None:
    weight, bias, x = tensors(inner, outer)
    found = PackedLinear(weight, None, scheme)(x)
    assert product_error(found, weight, x) < TOLERANCES[scheme]
    assert torch.equal(PackedLinear(weight, bias, scheme)(x), found + bias)


@pytest.mark.parametrize(("inner", "outer"), SHAPES)
def test_whole_numbers_are_multiplied_exactly(inner: int, outer: int) -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randint(-127, 128, (outer, inner), generator=generator).float()
    x = torch.randint(-127, 128, (ROWS, inner), generator=generator).float()
    weight[:, 0] = x[:, 0] = 127  # so that every scale is one
    found = PackedLinear(weight, None, Scheme.INT8)(x)
    assert torch.equal(found.double(), x.double() @ weight.double().t())


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 32, 64])
def test_rotated_layers_compute_what_plain_ones_do(size: int) -> None:
    weight, _, x = tensors(192, 64)
    x[:, 5] *= 40
    expected = functional.linear(x, weight)
    found = PackedLinear(weight, None, Scheme.INT8, rotated=size)(x)
    assert error(found, expected) < 0.1
    # the levels are those of rotated weights: with whole rotations as weights, exactly one is left
    turned = torch.block_diag(*[rotated(torch.eye(size), size)] * (192 // size))
    unit = PackedLinear(turned, None, Scheme.INT8, rotated=size)(turned)
    assert (unit - torch.eye(192)).abs().max() < 1e-6


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("inner", [128, 130])
def test_a_row_has_the_same_bits_in_any_company_on_any_number_of_threads(
    scheme: Scheme, inner: int
) -> None:
    weight, bias, x = tensors(inner, 200)
    layer = PackedLinear(weight, bias, scheme)
    together = layer(x, threads=3)
    for count in range(1, ROWS):
        assert torch.equal(layer(x[:count]), together[:count])
        assert torch.equal(layer(x[-count:]), together[-count:])


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("outer", [16, 40, 5])
def test_paired_layers_gate_their_outputs(scheme: Scheme, outer: int) -> None:
    weight, bias, x = tensors(64, 2 * outer)
    gate, up = functional.linear(x, weight, bias).chunk(2, dim=1)
    found = PackedLinear(weight, bias, scheme, paired=True)(x)
    assert error(found, functional.silu(gate) * up) < 3 * TOLERANCES[scheme]


@pytest.mark.parametrize("scheme", Scheme)
def test_products_are_added_to_what_was_there(scheme: Scheme) -> None:
    weight, bias, x = tensors(63, 33)
    layer, onto = PackedLinear(weight, bias, scheme), torch.randn(ROWS, 33)
    assert torch.equal(layer(x, onto=onto), onto + layer(x))


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 11, 40])
def test_every_task_is_computed_once_by_any_number_of_threads(threads: int) -> None:
    """Of more tasks than threads and of fewer: one done twice would be added twice, one left out
    would lack; again and again, as threads come in time or late."""
    for outer in (5, 40, 330, 3_300):
        weight, bias, x = tensors(64, outer)
        layer, onto = PackedLinear(weight, bias, Scheme.INT8), torch.randn(ROWS, outer)
        expected = onto + layer(x)
        for _ in range(20):
            assert torch.equal(layer(x, onto=onto, threads=threads), expected)


@pytest.mark.parametrize("scheme", Scheme)
def test_zeros_and_nan_stay_in_their_rows(scheme: Scheme) -> None:
    weight, bias, x = tensors(64, 48)
    x[2], x[4, 7], x[5, 1] = 0.0, float("nan"), float("inf")
    layer = PackedLinear(weight, bias, scheme, rotated=64)
    found = layer(x)
    assert torch.equal(found[2], bias)
    assert found[4].isnan().all()
    assert not found[5].isfinite().any()
    others = [row for row in range(ROWS) if row not in (4, 5)]
    assert torch.equal(found[others], layer(x[others]))


@pytest.mark.parametrize("scheme", Scheme)
def test_many_rows_are_blocked_without_a_seam(scheme: Scheme) -> None:
    weight, bias, x = tensors(64, 70)
    many = x.repeat(20, 1)  # 340 rows: several blocks, the last one partial
    layer = PackedLinear(weight, bias, scheme)
    assert torch.equal(layer(many, threads=2), layer(x).repeat(20, 1))


def test_values_too_small_to_be_normal_are_zero_and_the_callers_are_not() -> None:
    """They would take many times as long on some processors."""
    layer = PackedLinear(torch.full((32, 16), 1e-20), None, Scheme.FLOAT32)
    assert layer(torch.full((3, 16), 1e-17)).count_nonzero() == 3 * 32
    assert layer(torch.full((3, 16), 1e-20)).count_nonzero() == 0
    assert np.float32(1e-20) * np.float32(1e-20) > 0


def written_as_gguf(kind: str, outer: int = 40, groups: int = 5) -> torch.Tensor:
    """Weights [outer, 32 * groups] as Q4_0 or Q4_1 decode them; several groups use few levels."""
    generator = torch.Generator().manual_seed(7)
    levels = torch.randint(0, 16, (outer, groups, 32), generator=generator).float()
    scales = (torch.randn(outer, groups, 1, generator=generator) / 64).half().float()
    if kind == "Q4_0":  # signed scales; the weight of largest size is level 0
        levels[:, :, 3] = 0
        levels[: outer // 2] = levels[: outer // 2].clamp(max=11)
        return (scales * (levels - 8)).flatten(1)
    levels[:, :, 3], levels[:, :, 17] = 0, 15
    minima = (torch.randn(outer, groups, 1, generator=generator) / 8).half().float()
    return (scales.abs() * levels + minima).flatten(1)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_weights_that_came_from_4_bits_are_those_of_the_file(kind: str) -> None:
    weight = written_as_gguf(kind)
    found = PackedLinear(weight, None, Scheme.INT4_WEIGHT)(torch.eye(weight.shape[1])).t()
    # the levels, scales and minima of the file, rounded to bfloat16 where they are multiplied
    assert torch.equal(found, weight.bfloat16().float())


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_4_bits_with_8_bit_activations_keep_the_files_weights_within_half_a_level(
    kind: str,
) -> None:
    weight = written_as_gguf(kind)
    found = PackedLinear(weight, None, Scheme.INT4)(torch.eye(weight.shape[1])).t()
    scales = weight.abs().amax(1, keepdim=True) / 127
    # half a level, and the rounding of step and start to parts of one
    limit = (0.5 + 8.5 / LEVEL_PARTS) * scales
    assert ((found - weight).abs() <= limit).all()
    levels, _ = weight_levels(weight)
    assert levels.abs().max() == 127
    assert len(levels.unique()) > 16  # 8 bits of levels out of 4 bits a weight


@pytest.mark.parametrize(("inner", "outer"), SHAPES)
def test_4_bits_with_8_bit_activations_are_those_of_torch(inner: int, outer: int) -> None:
    weight, bias, x = tensors(inner, outer)
    found = PackedLinear(weight, bias, Scheme.INT4)(x)
    expected = Int4Linear(weight, bias)(x)
    assert error(found - bias, expected - bias) < 1e-5


def test_a_large_channel_costs_only_its_own_stretch_its_small_values() -> None:
    weight, _, x = tensors(192, 64)
    x[:, 70] = 1e4 * x.norm(dim=1)
    without = x.clone()
    without[:, 64:128] = 0.0
    layer = PackedLinear(weight, None, Scheme.INT4)
    apart = layer(x - without) + layer(without)
    # what the channel adds is far larger than the rest, so sums keep some 1e-3 of that
    assert error(layer(x) - layer(x - without), layer(without)) < 3e-2
    assert torch.allclose(layer(x), apart, rtol=1e-5)


def test_levels_of_8_bits_are_multiplied_as_they_are() -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randint(-127, 128, (33, 63), generator=generator).float()
    weight[:, 0] = 127  # so that every scale is one
    found = PackedLinear(weight, None, Scheme.INT8_WEIGHT)(torch.eye(63)).t()
    assert torch.equal(found, weight)


def test_groups_of_equal_and_of_tiny_weights_keep_them() -> None:
    weight = torch.full((33, 96), 0.5)
    weight[3] = 0.0
    weight[4] = 2.0**-20
    weight[5, :32] = -1.5
    found = PackedLinear(weight, None, Scheme.INT4_WEIGHT)(torch.eye(96)).t()
    assert torch.equal(found, weight)


@pytest.mark.parametrize("scheme", [Scheme.INT8_WEIGHT, Scheme.INT4_WEIGHT])
@pytest.mark.parametrize(("inner", "outer"), SHAPES)
def test_weight_only_layers_are_those_of_torch(scheme: Scheme, inner: int, outer: int) -> None:
    weight, _, x = tensors(inner, outer)
    theirs = {Scheme.INT8_WEIGHT: Int8WeightLinear, Scheme.INT4_WEIGHT: Int4WeightLinear}[scheme]
    with torch.inference_mode():
        expected = theirs(weight, None)(x)
    size = x.norm(dim=1) * weight.norm() / inner**0.5
    difference = (PackedLinear(weight, None, scheme)(x) - expected).norm(dim=1) / size
    assert difference.max() < TOLERANCES[Scheme.BFLOAT16]
