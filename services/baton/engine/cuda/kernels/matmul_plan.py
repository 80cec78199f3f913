"""How a product is cut into programs: a pure function of its shape and the device's size.

Knows counts; knows no tensors and no Triton. A decode step's products stream each weight once for a
few rows: there it counts how much is in flight, so few large tiles are split along their inputs. A
prefill's are bound by arithmetic: large square tiles, never split.
"""

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

SPLIT_COST_STEPS = 1
"""What filling the pipeline and adding up costs each split, in loop steps."""

TILE_OUTPUTS = 64
"""One warp group's share of Hopper's matrix instruction; weights are its first operand."""


@dataclass(frozen=True, slots=True)
class MatmulPlan:
    """Of [rows, inputs] x [outputs, inputs] transposed. Blocks are powers of two."""

    block_rows: int
    block_outputs: int
    block_inputs: int  # channels a loop step takes
    splits: int  # programs that share a tile, each with a stretch of the inputs
    warps: int
    stages: int  # loop steps whose loads are under way


def plan_matmul(
    rows: int, outputs: int, inputs: int, *, weight_bits: int, processors: int
) -> MatmulPlan:
    """`weight_bits`: of one weight as it lies in memory, 4 to 32. `processors`: multiprocessors.

    Numbers of rows between two powers of two share a plan, so that they share a compiled kernel.
    """
    if rows > SKINNY_ROWS_MAX:
        return MatmulPlan(128, 128, 1024 // max(weight_bits, 8), 1, warps=8, stages=3)
    block_rows = max(16, _power_of_two(rows))
    # with many rows, levels widened in registers leave no room for a longer step
    longest = 128 if block_rows == SKINNY_ROWS_MAX else 256
    block_inputs = min(2048 // max(weight_bits, 8), longest)
    steps = -(-inputs // block_inputs)
    tiles = -(-outputs // TILE_OUTPUTS)  # one tile holds all rows
    splits = _splits(tiles, steps, block_rows * outputs, processors)
    # of 16 bits and many rows, four steps would keep a second program off the multiprocessor
    stages = 3 if weight_bits > 8 and block_rows == SKINNY_ROWS_MAX else 4
    return MatmulPlan(block_rows, TILE_OUTPUTS, block_inputs, splits, warps=4, stages=stages)


def _splits(tiles: int, steps: int, sums: int, processors: int) -> int:
    """The count under which the busiest multiprocessor has least to do."""
    most = min(SPLITS_MAX, steps // SPLIT_STEPS_MIN, PARTIALS_MAX // sums)
    if tiles > TILES_MAX or most < 2:
        return 1

    def cost(splits: int) -> int:
        extra = SPLIT_COST_STEPS if splits > 1 else 0
        return -(-tiles * splits // processors) * (-(-steps // splits) + extra)

    return min(range(1, most + 1), key=lambda splits: (cost(splits), splits))


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()
