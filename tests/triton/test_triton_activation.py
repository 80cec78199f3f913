"""The gated activation equals torch's, whole and in 8 bits."""

import pytest
import torch
from baton.engine.cuda.kernels.activation import COLUMNS, quantize_rows, silu_mul
from torch.nn import functional


def gate_up(rows: int, width: int) -> torch.Tensor:
    return torch.randn(rows, 2 * width, generator=torch.Generator().manual_seed(width)) * 3


def expected(pairs: torch.Tensor) -> torch.Tensor:
    gate, up = pairs.chunk(2, dim=-1)
    return functional.silu(gate) * up


@pytest.mark.parametrize("width", [64, 1536, COLUMNS + 1])
def test_every_column_of_every_row(width: int) -> None:
    pairs, out = gate_up(3, width), torch.empty(3, width)
    silu_mul(pairs, out)
    torch.testing.assert_close(out, expected(pairs), rtol=1e-5, atol=1e-6)


def test_bfloat16_is_computed_in_float32() -> None:
    pairs, out = gate_up(2, 96).bfloat16(), torch.empty(2, 96, dtype=torch.bfloat16)
    silu_mul(pairs, out)
    torch.testing.assert_close(out, expected(pairs.float()).bfloat16(), rtol=2**-7, atol=0)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_8_bits_per_number_and_a_scale_per_row(dtype: torch.dtype) -> None:
    pairs = gate_up(3, 1030)
    pairs[2] = 0.0
    out, scale = torch.empty(3, 1030, dtype=dtype), torch.empty(3)
    silu_mul(pairs, out, scale)
    exact = expected(pairs)
    unit = scale[:, None] * (0.5001 if dtype is torch.int8 else 16.0)
    assert ((out.float() * scale[:, None] - exact).abs() <= unit).all()
    again, scale_again = torch.empty_like(out), torch.empty_like(scale)
    quantize_rows(exact, again, scale_again)
    torch.testing.assert_close(scale_again, scale)
    assert (again.float() - out.float()).abs().max() <= (1 if dtype is torch.int8 else 32)


def test_no_rows_are_no_work() -> None:
    silu_mul(torch.empty(0, 128), torch.empty(0, 64))
