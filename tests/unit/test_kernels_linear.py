"""Linear layers of the kernels against torch, over odd shapes, in every scheme."""

import pytest
import torch
from baton.engine.kernels.structs import Scheme
from baton.engine.quant.int8 import hadamard
from support.kernels import PackedLinear
from torch.nn import functional

# (in, out): whole panels and not, inputs of whole steps and not
SHAPES = [(64, 96), (63, 33), (5, 1), (130, 64), (257, 40)]
ROWS = 17  # tiles of up to 12 rows: every size occurs below
TOLERANCES = {Scheme.FLOAT32: 1e-5, Scheme.BFLOAT16: 8e-3, Scheme.INT8: 2e-2}


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
    turned = torch.block_diag(*[hadamard(size)] * (192 // size))
    unit = PackedLinear(turned, None, Scheme.INT8, rotated=size)(turned)
    assert (unit - torch.eye(192)).abs().max() < 1e-6


@pytest.mark.parametrize("scheme", Scheme)
def test_a_row_has_the_same_bits_in_any_company_on_any_number_of_threads(scheme: Scheme) -> None:
    weight, bias, x = tensors(130, 200)
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


def test_many_rows_are_blocked_without_a_seam() -> None:
    weight, bias, x = tensors(64, 70)
    many = x.repeat(20, 1)  # 340 rows: several blocks, the last one partial
    layer = PackedLinear(weight, bias, Scheme.INT8)
    assert torch.equal(layer(many, threads=2), layer(x).repeat(20, 1))
