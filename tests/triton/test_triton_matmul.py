"""The products of every scheme in Triton's interpreter, against float64 on what weights became.

Odd shapes on purpose: inputs that fill no loop step, outputs that fill no tile, rows that fill no
block, and few outputs with many inputs, which are split.
"""

import gguf
import numpy as np
import pytest
import torch
from baton.engine.cuda.kernels.matmul_plan import MatmulPlan, plan_matmul
from baton.engine.cuda.kernels.matmul_product import Factors, multiply
from baton.engine.cuda.kernels.matmul_rows import turn_rows
from baton.engine.cuda.linear import (
    Activations,
    PackedLinear,
    PackedWeight,
    Workspace,
    round_rows,
)
from baton.engine.cuda.pack import pack_linear, pack_weight, rotated_channels
from baton.engine.quant.int4_weight_only import Int4WeightLinear
from baton.engine.quant.int8 import Int8Linear, rotated
from baton.engine.quant.int8_weight_only import Int8WeightLinear
from baton.engine.quant.quantization import CUDA_SCHEMES, Quantization

CPU = torch.device("cpu")
PROCESSORS = 8
SCHEMES = CUDA_SCHEMES
SHAPES = [(1, 96, 320), (3, 130, 200), (5, 32, 1100)]  # rows, outputs, inputs
CASES = [(scheme, shape) for scheme in SCHEMES for shape in SHAPES]
# Large tiles; of 8-bit operands the interpreter makes hard work.
CASES += [(scheme, (70, 66, 96)) for scheme in SCHEMES if "weight-only" in scheme.value]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def workspace() -> Workspace:
    return Workspace(CPU, PROCESSORS)


def packed(
    scheme: Quantization, outputs: int, inputs: int, *, biased: bool = False
) -> tuple[PackedLinear, torch.Tensor, torch.Tensor | None]:
    """A layer and what it was made of."""
    weight = drawn(outputs, inputs, seed=1) * inputs**-0.5
    bias = drawn(outputs, seed=2) if biased else None
    return pack_linear(weight, bias, scheme, CPU, workspace()), weight, bias


def unpacked(weight: PackedWeight) -> torch.Tensor:
    """[outputs, inputs] float64: what the levels stand for, in the basis they are held in."""
    if weight.minima is None:
        values = weight.values.double()
        return values if weight.scales is None else values * weight.scales.double()[:, None]
    assert weight.scales is not None
    halves = torch.stack((weight.values & 15, weight.values >> 4), -1).view(
        weight.outputs, -1, 32, 2
    )
    levels = halves.permute(0, 1, 3, 2).flatten(1, 2).double()  # [outputs, groups, 32]
    held = levels * weight.scales.double()[..., None] + weight.minima.double()[..., None]
    return held.flatten(1)[:, : weight.inputs]


def ready(layer: PackedLinear, x: torch.Tensor) -> Activations:
    """Rows in the form the layer takes them."""
    kind = layer.takes.dtype
    if kind is None:
        return Activations(x)
    into = Activations(torch.empty(x.shape, dtype=kind), torch.empty(len(x)))
    return round_rows(x, into, rotated=layer.rotated)


def called(
    layer: PackedLinear, x: torch.Tensor, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    out = torch.full((len(x), layer.outputs), 7.0, dtype=dtype)
    layer(ready(layer, x), out)
    return out


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize(("scheme", "shape"), CASES, ids=str)
def test_a_product_is_that_of_what_it_holds(
    scheme: Quantization, shape: tuple[int, int, int]
) -> None:
    rows, outputs, inputs = shape
    layer, _, bias = packed(scheme, outputs, inputs, biased=rows != 5)
    x = drawn(rows, inputs)
    x = x if scheme is Quantization.NONE else x.bfloat16()
    given = ready(layer, x)
    held = given.values.double()
    if given.scales is not None:
        held *= given.scales.double()[:, None]
    expected = held @ unpacked(layer.weight).t()
    if bias is not None:
        expected += bias.double()
    # weights of 4 bits are rounded to bfloat16 on their way to a product
    tolerance = 3e-3 if scheme is Quantization.INT4_WEIGHT_ONLY else 1e-5
    assert error(called(layer, x), expected) < tolerance


@pytest.mark.parametrize(
    ("scheme", "tolerance"),
    [
        (Quantization.NONE, 1e-6),
        (Quantization.BF16, 5e-3),
        (Quantization.FP8, 5e-2),
        (Quantization.INT8, 1.6e-2),
        (Quantization.INT8_WEIGHT_ONLY, 1.4e-2),
        (Quantization.INT4_WEIGHT_ONLY, 1.3e-1),
    ],
)
def test_each_scheme_comes_as_close_as_its_bits_allow(
    scheme: Quantization, tolerance: float
) -> None:
    layer, weight, bias = packed(scheme, 80, 256, biased=True)
    assert bias is not None
    x = drawn(4, 256)
    held = x if scheme is Quantization.NONE else x.bfloat16()
    assert error(called(layer, held), x.double() @ weight.double().t() + bias) < tolerance


def test_int8_computes_what_the_cpu_computes() -> None:
    layer, weight, bias = packed(Quantization.INT8, 48, 192, biased=True)
    x = drawn(3, 192) * torch.logspace(-3, 3, 3)[:, None]
    assert torch.allclose(called(layer, x), Int8Linear(weight, bias)(x), rtol=1e-4, atol=1e-4)


def test_weight_only_levels_are_those_of_the_cpu() -> None:
    x = torch.eye(128).bfloat16()
    layer, weight, _ = packed(Quantization.INT8_WEIGHT_ONLY, 48, 128)
    near = Int8WeightLinear(weight, None)(x.float())
    assert torch.allclose(called(layer, x), near, rtol=1e-2, atol=1e-5)
    layer, weight, _ = packed(Quantization.INT4_WEIGHT_ONLY, 48, 128)
    near = Int4WeightLinear(weight, None)(x.float())
    assert torch.allclose(called(layer, x), near, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.value)
def test_rows_are_independent_and_bad_ones_stay_alone(scheme: Quantization) -> None:
    layer, _, _ = packed(scheme, 64, 128)
    x = drawn(4, 128)
    x[1, 5] = float("nan")
    x[2] *= 1e4
    x = x if scheme is Quantization.NONE else x.bfloat16()
    together = called(layer, x)
    assert together[1].isnan().all()
    for row in (0, 2, 3):
        assert torch.equal(called(layer, x[row : row + 1])[0], together[row])


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.value)
def test_outputs_leave_in_the_type_of_their_place(scheme: Quantization) -> None:
    layer, _, _ = packed(scheme, 64, 96, biased=True)
    x = drawn(2, 96)
    x = x if scheme is Quantization.NONE else x.bfloat16()
    wide, near = called(layer, x), called(layer, x, torch.bfloat16)
    assert torch.equal(near, wide.bfloat16())


@pytest.mark.parametrize("splits", [1, 2, 3, 5])
@pytest.mark.parametrize("scheme", [Quantization.BF16, Quantization.INT4_WEIGHT_ONLY])
def test_however_a_tile_is_split_the_sum_is_the_same(scheme: Quantization, splits: int) -> None:
    layer, _, _ = packed(scheme, 40, 576)
    x, shared = drawn(18, 576).bfloat16(), workspace()
    out = torch.empty(18, 40)
    multiply(
        x,
        layer.weight.values,
        Factors(None, layer.weight.scales, layer.weight.minima),
        out,
        plan=MatmulPlan(16, 16, 128, splits, warps=4, stages=2),
        partials=shared.partials,
        counters=shared.counters,
    )
    assert error(out, x.double() @ unpacked(layer.weight).t()) < 3e-3
    assert not shared.counters.any()


def test_rows_of_a_larger_buffer_are_read_and_written_in_place() -> None:
    layer, _, _ = packed(Quantization.BF16, 32, 64)
    x = drawn(6, 128).bfloat16()
    wide = torch.zeros(6, 80)
    layer(Activations(x[1:4, :64]), wide[1:4, 8:40])
    assert error(wide[1:4, 8:40], x[1:4, :64].double() @ unpacked(layer.weight).t()) < 2e-3
    assert not wide[:, :8].any()
    assert not wide[:, 40:].any()
    assert not wide[4:].any()


@pytest.mark.parametrize(("inputs", "block"), [(64, 64), (192, 64), (96, 32), (48, 16), (40, 1)])
def test_turned_rows_are_the_cpus(inputs: int, block: int) -> None:
    assert rotated_channels(inputs) == block
    if block == 1:
        return
    x = drawn(3, inputs)
    x[2] = 0.0
    values, scales = torch.empty(3, inputs, dtype=torch.int8), torch.empty(3)
    turn_rows(x, values, scales, rotated=block)
    turned = rotated(x, block)
    assert torch.allclose(scales[:2], turned[:2].abs().amax(1) / 127)
    assert (values[:2].float() * scales[:2, None] - turned[:2]).abs().max() <= scales.max() * 0.501
    assert not values[2].any()


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_four_bit_levels_of_a_file_survive(kind: str) -> None:
    """GGUF's own rounding, through float32 and back to levels: nothing is lost."""
    named = gguf.GGMLQuantizationType[kind]
    levels = gguf.quantize(drawn(16, 192).numpy(), named)
    weight = torch.from_numpy(gguf.dequantize(levels, named))
    held = pack_weight(weight, Quantization.INT4_WEIGHT_ONLY, CPU)
    assert error(unpacked(held), weight.double()) < 1e-6


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.value)
def test_a_weight_is_rounded_some_rows_at_a_time(scheme: Quantization) -> None:
    weight = drawn(10, 96)
    whole = pack_weight(weight, scheme, CPU)
    parts = pack_weight(weight, scheme, CPU, chunk_values=3 * 96 + 5)
    assert torch.equal(unpacked(whole), unpacked(parts))


def test_no_scheme_holds_more_than_its_bits() -> None:
    weight = drawn(256, 512)

    def bits(scheme: Quantization) -> float:
        held = pack_weight(weight, scheme, CPU)
        tensors = (held.values, held.scales, held.minima)
        return 8 * sum(one.nbytes for one in tensors if one is not None) / weight.numel()

    assert bits(Quantization.BF16) == 16
    assert bits(Quantization.INT4_WEIGHT_ONLY) == 5
    for scheme in (Quantization.FP8, Quantization.INT8, Quantization.INT8_WEIGHT_ONLY):
        assert 8 < bits(scheme) < 8.1


@pytest.mark.parametrize("scheme", [Quantization.NONE, Quantization.BF16, Quantization.FP8])
def test_many_rows_take_the_vendors_product(scheme: Quantization) -> None:
    layer, _, bias = packed(scheme, 48, 64, biased=True)
    assert bias is not None
    dtype = torch.float32 if scheme is Quantization.NONE else torch.bfloat16
    x = drawn(80, 64).to(dtype)
    given = ready(layer, x)
    held = given.values.double()
    if given.scales is not None:
        held *= given.scales.double()[:, None]
    assert error(called(layer, x, dtype), held @ unpacked(layer.weight).t() + bias) < 5e-3


def test_a_row_of_zeros_gives_the_bias() -> None:
    for scheme in SCHEMES:
        layer, _, bias = packed(scheme, 32, 64, biased=True)
        x = torch.zeros(1, 64, dtype=torch.float32)
        x = x if scheme is Quantization.NONE else x.bfloat16()
        assert bias is not None
        np.testing.assert_allclose(called(layer, x)[0].numpy(), bias.numpy(), rtol=1e-6)


def test_few_outputs_are_split_and_many_are_not() -> None:
    def plan(rows: int, outputs: int, inputs: int) -> MatmulPlan:
        return plan_matmul(rows, outputs, inputs, weight_bits=16, processors=132)

    assert plan(1, 4_096, 14_336).splits > 1
    assert plan(1, 128_256, 4_096).splits == 1
    assert plan(200, 4_096, 4_096).splits == 1
    assert plan(33, 4_096, 4_096).block_rows == 64


@pytest.mark.parametrize("outputs", [4_096, 28_672])
def test_rows_between_two_powers_of_two_share_a_plan(outputs: int) -> None:
    plans = [
        plan_matmul(rows, outputs, 4_096, weight_bits=16, processors=132) for rows in range(1, 200)
    ]
    assert len(set(plans)) == 4
    assert len(set(plans[32:64])) == len(set(plans[64:])) == 1
