"""Every kernel compiles for a Hopper GPU, into the instructions and the room that it was meant for.

What the interpreter cannot show, and what needs no GPU. Nothing here says how fast a kernel is.
"""

from typing import Any

import pytest
from baton.engine.cuda.kernels.attention_plan import PROGRAMS_PER_PROCESSOR
from support.triton_programs import told_by

pytestmark = pytest.mark.timeout(600)  # a busy machine takes some minutes

COMPILED_WITHIN_S = 580
# Of one Hopper multiprocessor.
REGISTERS = 65_536
SHARED_BYTES = 228 * 1024
SHARED_BYTES_OF_PROGRAM = 227 * 1024
RESERVED_BYTES = 1024  # of each program, by the system
THREADS_OF_WARP = 32

# Machine code: loads, stores, atomics, asynchronous copies, ends and jumps.
EARLY_ONLY_IF_LATE = (
    *("LD.", "LDG", "LDL", "ST.", "STG", "STL", "ATOM", "RED", "UBLK", "UTMA", "EXIT", "RET"),
    *("BRA", "BRX", "JMP", "CALL"),
)
SECOND_CACHE_FETCH = "CCTL.E.PF2"

BF16, FP8, INT8 = "torch.bfloat16", "torch.float8_e4m3fn", "torch.int8"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What `support.triton_compiles` prints."""
    cache = tmp_path_factory.mktemp("triton")
    return told_by("support.triton_compiles", cache, within_s=COMPILED_WITHIN_S)


def find(compiled: list[dict[str, Any]], kernel: str, case: str) -> dict[str, Any]:
    [one] = [one for one in compiled if (one["kernel"], one["case"]) == (kernel, case)]
    return one


def test_every_kernel_compiles_and_fits(compiled: list[dict[str, Any]]) -> None:
    assert {one["kernel"] for one in compiled} == {
        "_add_rms_norm",
        "_add_up",
        "_arrange",
        "_choose",
        "_count",
        "_draw_tiles",
        "_multiply",
        "_multiply_grouped",
        "_quantize_rows",
        "_rotate_and_store",
        "_scan_tiles",
        "_settle_draws",
        "_settle_filters",
        "_settle_likeliest",
        "_silu_mul",
        "_turn_rows",
        "attend_few",
        "attend_tiles",
        "combine_parts",
    }
    for one in compiled:
        assert one["shared_bytes"] <= SHARED_BYTES_OF_PROGRAM
        assert one["registers"] * one["warps"] * THREADS_OF_WARP <= REGISTERS


def test_numbers_stay_in_registers(compiled: list[dict[str, Any]]) -> None:
    for one in compiled:
        if one["kernel"] != "_settle_filters":  # its float64 logarithms take a few bytes
            assert one["stack_bytes"] == 0, one


def test_another_step_of_the_same_model_compiles_nothing(compiled: list[dict[str, Any]]) -> None:
    assert [one for one in compiled if "again" in one["case"]] == []


def test_no_kernel_touches_memory_or_ends_before_those_ahead_have_ended(
    compiled: list[dict[str, Any]],
) -> None:
    """What lets a kernel start early: in its machine code, not only in its source."""
    for one in compiled:
        assert one["prelude"] is not None, one
        assert [name for name in one["prelude"] if name.startswith(EARLY_ONLY_IF_LATE)] == [], one
        assert one["prelude"].count("PREEXIT") == 1, one


def test_weights_of_few_rows_are_asked_for_before_the_rows_are_there(
    compiled: list[dict[str, Any]],
) -> None:
    products = [one for one in compiled if one["kernel"] == "_multiply"]
    for one in products:
        many = "of 128" in one["case"]  # bound by arithmetic
        assert (SECOND_CACHE_FETCH in one["prelude"]) != many, one
    assert {"of 128" in one["case"] for one in products} == {True, False}


@pytest.mark.parametrize("case", [BF16, FP8, INT8, f"{BF16} with a window"])
def test_long_pieces_use_the_large_matrix_instructions(
    compiled: list[dict[str, Any]], case: str
) -> None:
    assert {"wgmma", "cp.async"} <= set(find(compiled, "attend_tiles", case)["instructions"])


@pytest.mark.parametrize("case", [BF16, FP8, INT8])
def test_decode_multiplies_in_the_matrix_unit_while_keys_are_fetched(
    compiled: list[dict[str, Any]], case: str
) -> None:
    assert {"mma.sync", "cp.async"} <= set(find(compiled, "attend_few", case)["instructions"])


@pytest.mark.parametrize("kernel", ["_multiply", "_multiply_grouped"])
def test_weights_are_fetched_while_the_matrix_unit_works(
    compiled: list[dict[str, Any]], kernel: str
) -> None:
    products = [set(one["instructions"]) for one in compiled if one["kernel"] == kernel]
    assert products
    assert all({"wgmma", "cp.async"} <= used for used in products)


@pytest.mark.parametrize("case", [BF16, f"{BF16} in one part", f"{BF16} with a window"])
def test_as_many_programs_of_the_split_kernel_as_planned_share_a_multiprocessor(
    compiled: list[dict[str, Any]], case: str
) -> None:
    one = find(compiled, "attend_few", case)
    registers = one["registers"] * one["warps"] * THREADS_OF_WARP
    assert PROGRAMS_PER_PROCESSOR * registers <= REGISTERS
    assert PROGRAMS_PER_PROCESSOR * (one["shared_bytes"] + RESERVED_BYTES) <= SHARED_BYTES


@pytest.mark.parametrize("kernel", ["_add_rms_norm", "_silu_mul", "_scan_tiles", "_settle_filters"])
def test_rows_are_read_16_bytes_at_a_time(compiled: list[dict[str, Any]], kernel: str) -> None:
    for one in compiled:
        if one["kernel"] == kernel:
            assert "ld.global.v4" in one["instructions"], one
