"""How a product is cut into programs: a pure function of its shape and the device's size.

Knows counts; knows no tensors and no Triton. A decode step's products stream each weight once for a
few rows: there it counts how much is in flight, so few large tiles are split along their inputs. A
prefill's are bound by arithmetic: large square tiles, never split.
"""

import math
from dataclasses import dataclass

SKINNY_ROWS_MAX = 64
"""Rows up to which a product is bound by reading weights: at 64 rows of bf16 a weight byte meets 64
multiplications, a third of what an H200 does in the time it reads that byte."""

SPLITS_MAX = 8
"""Partial sums are written and read again: 8 times float32 for every output at the very most."""

PARTIALS_MAX = 1 << 22
"""Float32 partial sums of one product, 16 MiB: below this a split is worth it, above it is not."""

TILES_MAX = 1 << 14
"""Tiles of a split product: as many counters are kept. 64 outputs each are a million outputs."""

SPLIT_STEPS_MIN = 4
"""Loop steps of a split: the pipeline of loads is that deep, fewer would never fill it."""

TILE_OUTPUTS = 64
"""One warp group's share of Hopper's matrix instruction; weights are its first operand."""

WIDE_ROWS_MIN = 32
"""Rows from which a tile has the outputs of two warp groups: every tile reads all rows from the
second cache, at 64 rows and 64 outputs as many bytes as of weights."""

AHEAD_TOTAL = 36 << 20
"""Bytes asked for ahead by all programs that are there at once: of some 50 MB that the second cache
holds, and more than memory gives in the few microseconds that are waited."""

AHEAD_MOST = 4_096

PROGRAMS_PER_PROCESSOR = 2
"""Of few rows, resident at once, by the shared memory they take."""

BUSY = 0.95
"""Of the multiprocessors have a program, and there is no call for more splits."""


@dataclass(frozen=True, slots=True)
class MatmulPlan:
    """Of [rows, inputs] x [outputs, inputs] transposed. Blocks are powers of two."""

    block_rows: int
    block_outputs: int
    block_inputs: int  # channels a loop step takes
    splits: int  # programs that share a tile, each with a stretch of the inputs
    warps: int
    stages: int  # loop steps whose loads are under way
    ahead_bytes: int = 0  # of each output's weights, asked for before rows are there


def plan_matmul(
    rows: int, outputs: int, inputs: int, *, weight_bits: int, processors: int
) -> MatmulPlan:
    """`weight_bits`: of one weight as it lies in memory, 4 to 32. `processors`: multiprocessors.

    Numbers of rows between two powers of two share a plan, so that they share a compiled kernel.
    """
    if rows > SKINNY_ROWS_MAX:
        return MatmulPlan(128, 128, 1024 // max(weight_bits, 8), 1, warps=8, stages=3)
    block_rows = max(16, _power_of_two(rows))
    groups = 2 if block_rows >= WIDE_ROWS_MIN else 1
    block_inputs = 2048 // max(weight_bits, 8) // groups
    block_outputs = groups * TILE_OUTPUTS
    steps = -(-inputs // block_inputs)
    tiles = -(-outputs // block_outputs)  # one tile holds all rows
    splits = _splits(tiles, steps, block_rows * outputs, processors)
    there = min(tiles * splits, PROGRAMS_PER_PROCESSOR * processors)
    ahead = min(AHEAD_MOST, _power_of_two(AHEAD_TOTAL // (there * block_outputs) // 2 + 1))
    return MatmulPlan(
        block_rows, block_outputs, block_inputs, splits, 4 * groups, stages=4, ahead_bytes=ahead
    )


def _splits(tiles: int, steps: int, sums: int, processors: int) -> int:
    """The fewest that give nearly every multiprocessor a program: one has enough in flight."""
    most = min(SPLITS_MAX, steps // SPLIT_STEPS_MIN, PARTIALS_MAX // sums)
    if tiles > TILES_MAX or most < 2:
        return 1
    return min(most, math.ceil(BUSY * processors / tiles))


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()
