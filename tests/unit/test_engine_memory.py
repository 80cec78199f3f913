"""Stretches of memory: where they begin, and that they are zeros until and after they are used."""

import ctypes
import itertools
import mmap
from pathlib import Path

import numpy as np
import pytest
from baton.engine.memory import CACHE_LINE_BYTES, Arena, RowSpace, aligned_rows, whole_lines


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_pieces_lie_behind_each_other_at_the_start_of_cache_lines() -> None:
    sizes = (1, 64, 65, 4_096, 7)
    arena = Arena(sum(map(whole_lines, sizes)))
    places = [arena.take(size) for size in sizes]
    assert all(place % CACHE_LINE_BYTES == 0 for place in places)
    ends = [place + whole_lines(size) for place, size in zip(places, sizes, strict=True)]
    assert [end for end, _ in itertools.pairwise(ends)] == places[1:]


@pytest.mark.parametrize("size_bytes", [1, 100, 5 << 20])
def test_memory_is_zeros_until_it_is_written_and_again_once_cleared(size_bytes: int) -> None:
    arena = Arena(size_bytes)
    place = arena.take(size_bytes)
    seen = np.frombuffer(arena.memory, np.uint8)
    assert not seen.any()
    ctypes.memset(place, 255, size_bytes)
    assert seen.sum() == 255 * size_bytes
    arena.clear()
    assert not seen.any()


def test_memory_is_there_before_it_is_written_where_it_was_asked_for() -> None:
    piece, size = 4 << 20, 64 << 20
    arena = Arena(size)
    seen = np.frombuffer(arena.memory, np.uint8)
    seen[3 * piece] = 7
    before = resident_bytes()
    if not arena.populate(0, piece):
        pytest.skip("this system cannot be asked for memory ahead of its use")
    for first in range(piece, size, piece):
        assert arena.populate(first, piece)
    assert resident_bytes() - before > 0.9 * size
    assert seen[3 * piece] == 7
    assert seen.sum() == 7
    assert arena.populate(size - 4_096, piece)  # no further than its end


@pytest.mark.parametrize(("count", "width"), [(1, 1), (3, 576), (32, 49_168), (0, 5)])
def test_rows_begin_at_a_cache_line_and_can_be_written(count: int, width: int) -> None:
    rows = aligned_rows(count, width)
    assert rows.shape == (count, width)
    assert rows.dtype == np.float32
    assert rows.ctypes.data % CACHE_LINE_BYTES == 0 or not count
    rows[:] = 1.5
    assert rows.sum() == 1.5 * count * width


def test_room_for_rows_is_used_again_and_grows() -> None:
    space = RowSpace()
    first = space.rows(3, 64)
    first[:] = 1.0
    again = space.rows(2, 32)
    assert again.shape == (2, 32)
    assert np.shares_memory(first, again)
    grown = space.rows(5, 64)
    grown[:] = 2.0
    assert grown.ctypes.data % CACHE_LINE_BYTES == 0
    assert (first == 1.0).all()  # larger rows lie elsewhere: the old ones are whoever's has them
