"""How attention's work is cut: tiles, and splits of contexts. Pure: shapes in, numbers out.

Knows the limits of a Hopper multiprocessor; knows no tensors.
"""

from dataclasses import dataclass

# Rows of the smallest matrix product.
PRODUCT_ROWS = 16
# Parts of one sequence and head: 64 of them with 8 key heads give each processor of a large GPU
# several programs for a single sequence.
SPLITS_MAX = 64
# Programs of the split kernel resident on one multiprocessor at once, by the registers they take
# (a test compiles it and looks).
PROGRAMS_PER_PROCESSOR = 4
# A last wave of programs this full is good enough: more splits cost more putting together.
WAVE_FILL = 0.9


@dataclass(frozen=True, slots=True)
class TileShape:
    """What one program works on at a time, and with what."""

    block_m: int  # rows: tokens times the heads of a group
    block_n: int  # columns: tokens of the context
    warps: int
    stages: int  # of the pipeline that fetches keys and values


def few_rows(heads: int, kv_heads: int) -> int:
    """A sequence of at most so many rows takes part in the split kernel, as in decode."""
    return max(1, PRODUCT_ROWS // (heads // kv_heads))


def few_shape(head_size: int, element_bytes: int, cached_bytes: int, group: int) -> TileShape:
    """Of the split kernel. `element_bytes`: of queries, `cached_bytes`: of keys; `group`: heads
    that share a key head."""
    block_m = max(PRODUCT_ROWS, 1 << (group - 1).bit_length())
    # The first two stages are block ids and the product; each two more hold another block of keys
    # and values: with three stages none is on its way while one is multiplied.
    block_n = 64 if cached_bytes == 1 and head_size * element_bytes <= 256 else 32
    return TileShape(block_m, block_n, warps=4, stages=5)


def tiles_shape(head_size: int, element_bytes: int) -> TileShape:
    """Of the kernel for longer pieces."""
    if head_size * element_bytes <= 256:
        return TileShape(block_m=128, block_n=64, warps=8, stages=5)
    return TileShape(block_m=64, block_n=32, warps=4, stages=2)


def plan_splits(sequences: int, kv_heads: int, processors: int) -> int:
    """Into how many parts a step of few-row sequences cuts each context: the fewest that keep
    `processors` multiprocessors busy. Short contexts use fewer, decided on the device."""
    places = processors * PROGRAMS_PER_PROCESSOR
    fills = [_fill(sequences * kv_heads * splits, places) for splits in range(1, SPLITS_MAX + 1)]
    good = min(WAVE_FILL, max(fills))
    return 1 + next(index for index, fill in enumerate(fills) if fill >= good)


def differently_cut(counts: range, kv_heads: int, processors: int) -> tuple[int, ...]:
    """Of these numbers of sequences, one for each variant of the split kernel: one whose contexts
    are cut, one whose are not. Which are not is no matter of more or fewer."""
    found = {plan_splits(count, kv_heads, processors) > 1: count for count in counts}
    return tuple(found.values())


def parts_needed(sequences: int, rows_max: int, heads: int, kv_heads: int, splits: int) -> int:
    """Places a step needs in the workspace of splits."""
    if splits == 1:
        return 0
    return sequences * min(rows_max, few_rows(heads, kv_heads)) * heads * splits


def _fill(programs: int, places: int) -> float:
    """The share of places taken, over all waves; a first wave need not be full to be one."""
    return programs / (-(-programs // places) * places)
