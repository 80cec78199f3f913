"""Durations, memory and Kubernetes' quantities mean what people mean by them."""

from fractions import Fraction

import pytest
from baton_operator.quantities import Duration, Memory, quantity


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("1s", 1.0), ("10m", 600.0), ("2h", 7200.0)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert Duration(text).seconds == seconds


@pytest.mark.parametrize("text", ["", "5", "0s", "-1s", "1.5s", "1m30s", "1d", "1 s", "9999999s"])
def test_anything_else_is_no_duration_and_the_error_shows_one(text: str) -> None:
    with pytest.raises(ValueError, match="such as 500ms"):
        Duration(text)


@pytest.mark.parametrize(("text", "mebibytes"), [("512Mi", 512), ("2Gi", 2048), ("1Ti", 1 << 20)])
def test_memory_counts_in_mebibytes(text: str, mebibytes: int) -> None:
    assert Memory(text).mebibytes == mebibytes


@pytest.mark.parametrize("text", ["", "2", "2G", "0Gi", "1.5Gi", "2 Gi", "2gi"])
def test_anything_else_is_no_memory_and_the_error_shows_one(text: str) -> None:
    with pytest.raises(ValueError, match="such as 512Mi"):
        Memory(text)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("1000m", Fraction(1)),
        (2, Fraction(2)),
        ("0.5", Fraction(1, 2)),
        ("1.", Fraction(1)),
        (".5", Fraction(1, 2)),
        ("1k", Fraction(1000)),
        ("1Ki", Fraction(1024)),
        ("1E", Fraction(10) ** 18),
        ("1Ei", Fraction(1024) ** 6),
        ("2e3", Fraction(2000)),
        ("1E3", Fraction(1000)),
    ],
)
def test_a_quantity_is_a_number_whatever_its_spelling(written: object, number: Fraction) -> None:
    assert quantity(written) == number


@pytest.mark.parametrize("written", ["", "two", "1KB", True, None, "1mm", "1e999", "9" * 40])
def test_other_text_is_no_quantity(written: object) -> None:
    assert quantity(written) is None
