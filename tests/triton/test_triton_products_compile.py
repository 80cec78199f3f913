"""Every product compiles for a Hopper GPU into its matrix instruction, fed by asynchronous copies,
without a number that does not fit into registers. Nothing here says how fast it is.
"""

from typing import Any

import pytest
from support.triton_programs import told_by

COMPILED_WITHIN_S = 280
SHARED_BYTES_OF_PROGRAM = 227 * 1024  # of one Hopper multiprocessor


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What `support.triton_compiles_products` prints."""
    cache = tmp_path_factory.mktemp("triton")
    return told_by("support.triton_compiles_products", cache, within_s=COMPILED_WITHIN_S)


def test_every_product_is_made_of_matrix_instructions(compiled: list[dict[str, Any]]) -> None:
    products = [one for one in compiled if one["kernel"] in ("_multiply", "_multiply_grouped")]
    assert len(products) >= 15
    for one in products:
        assert {"wgmma", "cp.async"} <= set(one["instructions"]), one
        assert one["shared_bytes"] <= SHARED_BYTES_OF_PROGRAM, one


def test_widened_weights_stay_until_they_are_multiplied(compiled: list[dict[str, Any]]) -> None:
    """They are in registers, which the compiler gives to others while products still read them; so
    no product may be under way when the next ones are widened."""
    widened = [
        one
        for one in compiled
        if "int8-weight-only" in one["case"] and one["kernel"].startswith("_multiply")
    ]
    assert len(widened) >= 3
    for one in widened:
        assert one["left_under_way"], one
        assert set(one["left_under_way"]) == {0}, one


def test_nothing_spills(compiled: list[dict[str, Any]]) -> None:
    assert [one for one in compiled if one["stack_bytes"]] == []


def test_all_kernels_of_a_mixture_compile(compiled: list[dict[str, Any]]) -> None:
    found = {one["kernel"] for one in compiled}
    assert {"_choose", "_count", "_arrange", "_add_up", "_turn_rows"} <= found
