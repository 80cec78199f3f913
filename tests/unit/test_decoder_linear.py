"""The linear layers of each scheme: how close they come, and that rows stay independent."""

import pytest
import torch
from baton.common.errors import ConfigError
from baton.engine.quant import bf16, int8
from baton.engine.quant.bf16 import Bf16Linear
from baton.engine.quant.int4_weight_only import Int4WeightLinear, kernel_fits
from baton.engine.quant.int8 import EXACT_TERMS, Int8Linear
from baton.engine.quant.int8_weight_only import KERNEL_ROWS_MAX, Int8WeightLinear
from baton.engine.quant.linear import Fp32Linear, Linear, make_linear
from baton.engine.quant.quantization import Quantization

# in, out, rows: the last two fit no kernel of the weight-only schemes
SHAPES = [(64, 48, 1), (EXACT_TERMS * 2 + 64, 48, KERNEL_ROWS_MAX + 1), (96, 33, 5), (40, 16, 3)]


def tensors(inner: int, outer: int, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """weight [outer, inner], bias [outer], x [rows, inner] with rows of very unlike size."""
    generator = torch.Generator().manual_seed(inner + rows)
    weight = torch.randn(outer, inner, generator=generator) * inner**-0.5
    x = torch.randn(rows, inner, generator=generator)
    return weight, torch.randn(outer, generator=generator), x * torch.logspace(-2, 2, rows)[:, None]


def error(layer: Linear, weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor) -> float:
    """The largest error of a row, relative to the row's size."""
    with torch.inference_mode():
        found = layer(x)
    assert found.dtype == torch.float32
    exact = (x.double() @ weight.double().t()) + bias
    scale = (x.double() @ weight.double().t()).norm(dim=1) + bias.norm()
    return float(((found - exact).norm(dim=1) / scale).max())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("quantization", "tolerance"),
    [
        (Quantization.NONE, 1e-6),
        (Quantization.BF16, 5e-3),
        (Quantization.INT8, 1.6e-2),
        (Quantization.INT8_WEIGHT_ONLY, 1.4e-2),
        (Quantization.INT4_WEIGHT_ONLY, 1.3e-1),
        (Quantization.INT4, 1.3e-1),
    ],
)
def test_each_scheme_stays_within_its_rounding(
    shape: tuple[int, int, int], quantization: Quantization, tolerance: float
) -> None:
    weight, bias, x = tensors(*shape)
    assert error(make_linear(weight.clone(), bias, quantization), weight, bias, x) < tolerance
    without = make_linear(weight.clone(), None, quantization)
    assert error(without, weight, torch.zeros_like(bias), x) < tolerance


@pytest.mark.skipif(not int8.kernel_available(), reason="no oneDNN 8-bit kernel here")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_ways_of_the_8_bit_layer_find_the_same_integers(shape: tuple[int, int, int]) -> None:
    weight, bias, x = tensors(*shape)
    fast, plain = Int8Linear(weight, bias, kernel=True), Int8Linear(weight, bias, kernel=False)
    with torch.inference_mode():
        assert torch.allclose(fast(x), plain(x), rtol=3e-7, atol=0)  # one rounding of the scales


def test_a_few_huge_channels_do_not_drown_the_others() -> None:
    weight, bias, x = tensors(256, 64, 4)
    x[:, [3, 100]] *= 50
    step = x.abs().amax(1, keepdim=True) / 127
    without_rotation = Fp32Linear(weight, bias)((x / step).round() * step)
    exact = Fp32Linear(weight, bias)(x)
    ours = Int8Linear(weight, bias)(x)
    assert (ours - exact).norm() < (without_rotation - exact).norm() / 2


@pytest.mark.skipif(not bf16.packing_available(), reason="no packed bfloat16 product here")
def test_packed_and_plain_bfloat16_agree() -> None:
    weight, bias, x = tensors(256, 64, 4)
    packed, plain = Bf16Linear(weight, bias, packed=True), Bf16Linear(weight, bias, packed=False)
    with torch.inference_mode():
        assert torch.allclose(packed(x), plain(x), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("kernel", [False, True])
def test_rows_of_the_8_bit_layer_are_independent(kernel: bool) -> None:
    if kernel and not int8.kernel_available():
        pytest.skip("no oneDNN 8-bit kernel here")
    weight, bias, x = tensors(64, 48, 6)
    x[2] = 0.0
    x[4, 7] = float("nan")
    layer = Int8Linear(weight, bias, kernel=kernel)
    with torch.inference_mode():
        together = layer(x)
        for row in (0, 1, 2, 3, 5):
            alone = layer(x[row : row + 1])[0]
            # the rotation sums in another order for another number of rows
            assert torch.allclose(together[row], alone, rtol=1e-2, atol=1e-5)
    assert torch.equal(together[2], bias)
    assert together[4].isnan().all()


@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_both_ways_of_the_weight_only_layers_agree(shape: tuple[int, int, int]) -> None:
    weight, bias, x = tensors(*shape)
    for layer in (Int8WeightLinear, Int4WeightLinear):
        fast, plain = layer(weight, bias, kernel=True), layer(weight, bias, kernel=False)
        with torch.inference_mode():
            difference = (fast(x) - plain(x)).norm(dim=1)
            assert bool((difference <= 2e-3 * plain(x).norm(dim=1)).all())  # bfloat16 rounds so


@pytest.mark.parametrize("layer", [Int8WeightLinear, Int4WeightLinear])
@pytest.mark.parametrize("kernel", [False, True])
def test_rows_of_the_weight_only_layers_are_independent(
    layer: type[Int8WeightLinear] | type[Int4WeightLinear], kernel: bool
) -> None:
    weight, bias, x = tensors(64, 48, 6)
    x[2] = 0.0
    x[4, 7] = float("nan")
    made = layer(weight, bias, kernel=kernel)
    with torch.inference_mode():
        together = made(x)
        alone = torch.cat([made(x[row : row + 1]) for row in (0, 1, 2, 3, 5)])
    assert torch.allclose(together[[0, 1, 2, 3, 5]], alone, rtol=1e-2, atol=1e-5)
    assert torch.equal(together[2], bias)
    assert together[4].isnan().all()


def test_weights_that_came_from_4_bits_in_groups_survive_4_bits() -> None:
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 16, (48, 4, 32), generator=generator)
    levels[:, :, 0], levels[:, :, 1] = 0, 15  # as Q4_1 writes a block: both ends in use
    scale = torch.rand(48, 4, 1, generator=generator) + 0.1
    weight = (levels * scale - 8 * scale).flatten(1)
    x = torch.eye(128)
    with torch.inference_mode():
        found = Int4WeightLinear(weight, None)(x).t()
    assert (found - weight).norm() < 4e-3 * weight.norm()


def test_a_group_of_equal_weights_keeps_them() -> None:
    weight = torch.full((16, 64), 0.5)
    weight[3] = 0.0
    for layer in (Int8WeightLinear(weight, None), Int4WeightLinear(weight, None)):
        with torch.inference_mode():
            assert torch.allclose(layer(torch.eye(64)).t(), weight, rtol=4e-3)


def test_shapes_no_4_bit_kernel_takes_are_known() -> None:
    assert kernel_fits(48, 64)
    assert not kernel_fits(33, 96)
    assert not kernel_fits(48, 40)


def test_a_scheme_is_parsed_by_name() -> None:
    assert Quantization.parse(" INT8 ") is Quantization.INT8
    with pytest.raises(
        ConfigError, match="none, bf16, int8, int4, int8-weight-only, int4-weight-only"
    ):
        Quantization.parse("fp4")
