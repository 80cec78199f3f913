"""The norm kernel equals torch's, adds in place, and rounds rows as their scales say."""

import pytest
import torch
from baton.engine.cuda.kernels.norm import add_rms_norm
from torch.nn import functional

EPS = 1e-5


def rows(count: int, hidden: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(hidden)
    return torch.randn(count, hidden, generator=generator).to(dtype)


@pytest.mark.parametrize("hidden", [64, 96, 576])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_sum_stays_and_its_norm_leaves(hidden: int, dtype: torch.dtype) -> None:
    residual, delta = rows(3, hidden), rows(6, hidden, dtype)[3:]
    weight, out = rows(1, hidden)[0], torch.empty(3, hidden, dtype=dtype)
    summed = residual + delta.float()
    add_rms_norm(delta, residual, weight, EPS, out)
    torch.testing.assert_close(residual, summed, rtol=0, atol=0)
    expected = functional.rms_norm(summed, (hidden,), weight, EPS)
    torch.testing.assert_close(
        out, expected.to(dtype), rtol=1e-2 if out.itemsize == 2 else 1e-6, atol=0
    )


def test_without_a_delta_the_residual_is_only_read() -> None:
    residual, weight = rows(2, 64), torch.ones(64)
    before, out = residual.clone(), torch.empty(2, 64)
    add_rms_norm(None, residual, weight, EPS, out)
    assert torch.equal(residual, before)
    torch.testing.assert_close(out, functional.rms_norm(before, (64,), weight, EPS))


def test_a_residual_in_bfloat16_is_normed_as_later_layers_read_it() -> None:
    residual, delta = rows(2, 96, torch.bfloat16), rows(4, 96, torch.bfloat16)[2:]
    expected = residual + delta
    out = torch.empty(2, 96)
    add_rms_norm(delta, residual, torch.ones(96), EPS, out)
    assert torch.equal(residual, expected)
    torch.testing.assert_close(out, functional.rms_norm(expected.float(), (96,), None, EPS))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_rows_in_8_bits_come_with_what_a_unit_is_worth(dtype: torch.dtype) -> None:
    residual, weight = rows(3, 96), torch.ones(96)
    residual[1] *= 1000.0  # a row's scale is its own
    out, scale = torch.empty(3, 96, dtype=dtype), torch.empty(3)
    add_rms_norm(None, residual, weight, EPS, out, scale)
    expected = functional.rms_norm(residual, (96,), None, EPS)
    largest = 127.0 if dtype is torch.int8 else torch.finfo(dtype).max
    torch.testing.assert_close(scale, expected.abs().amax(1) / largest)
    if dtype is torch.int8:
        assert torch.equal(
            out, (expected * (largest / expected.abs().amax(1))[:, None]).round().to(dtype)
        )
    else:
        torch.testing.assert_close(out.float() * scale[:, None], expected, rtol=2**-4, atol=1e-3)


def test_a_row_of_zeros_stays_zeros() -> None:
    out, scale = torch.empty(1, 64, dtype=torch.int8), torch.empty(1)
    add_rms_norm(None, torch.zeros(1, 64), torch.ones(64), EPS, out, scale)
    assert not out.any()
    assert scale > 0


def test_no_rows_are_no_work() -> None:
    add_rms_norm(None, rows(0, 64), torch.ones(64), EPS, torch.empty(0, 64))


@pytest.mark.filterwarnings("ignore:All-NaN slice")  # of numpy, in the interpreter
@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_a_row_that_is_not_a_number_shows_in_8_bits_too_and_no_other_does(
    dtype: torch.dtype,
) -> None:
    residual = rows(3, 64)
    residual[1, 5] = torch.nan
    out, scale = torch.empty(3, 64, dtype=dtype), torch.empty(3)
    add_rms_norm(None, residual, torch.ones(64), EPS, out, scale)
    assert scale.isnan().tolist() == [False, True, False]
