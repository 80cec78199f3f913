"""Large stretches of zeroed memory, in large pages where the system has them.

Weights and KV are read at addresses far apart: with pages of 4 KiB, looking those up costs as much
as the reading itself.
"""

import ctypes
import mmap
import sys
from ctypes import addressof, c_char

import numpy as np
from numpy.typing import NDArray

CACHE_LINE_BYTES = 64

MADV_POPULATE_WRITE = 23
"""Of Linux 5.14 and later; Python's mmap has no name for it yet."""


class Arena:
    """One stretch of memory, handed out from its start. It lives as long as the object, or as any
    array over `memory`.
    """

    def __init__(self, size_bytes: int) -> None:
        # private: memory that could be shared gets no large pages on most systems
        self.memory = mmap.mmap(
            -1, max(size_bytes, mmap.PAGESIZE), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self.memory.madvise(mmap.MADV_HUGEPAGE)
        self._first = self._next = addressof(c_char.from_buffer(self.memory))

    def take(self, size_bytes: int) -> int:
        """The address of the next `size_bytes`, at the start of a cache line."""
        address = self._next
        self._next += whole_lines(size_bytes)
        return address

    def populate(self, first: int, size_bytes: int) -> bool:
        """Have the system back these bytes with memory now, not when each page is first written;
        they keep what they hold. `first`: a multiple of the page size. False where it cannot.
        """
        if sys.platform != "linux":
            return False
        address = ctypes.c_void_p(self._first + first)
        size = ctypes.c_size_t(min(size_bytes, len(self.memory) - first))
        # not mmap's own method: that one holds the interpreter meanwhile
        return bool(ctypes.CDLL(None).madvise(address, size, MADV_POPULATE_WRITE) == 0)

    def clear(self) -> None:
        """All zeros again. On Linux the pages go back to the system until they are used."""
        if sys.platform == "linux":
            self.memory.madvise(mmap.MADV_DONTNEED)
        else:
            self.memory[:] = bytes(len(self.memory))


def whole_lines(size_bytes: int) -> int:
    """`size_bytes` rounded up to cache lines: what `take` uses up."""
    return -(-size_bytes // CACHE_LINE_BYTES) * CACHE_LINE_BYTES


def aligned_rows(count: int, width: int) -> NDArray[np.float32]:
    """[count, width], not set, the first row at the start of a cache line."""
    size_bytes = 4 * count * width
    memory = np.empty(size_bytes + CACHE_LINE_BYTES, np.uint8)
    first = -memory.ctypes.data % CACHE_LINE_BYTES
    return memory[first : first + size_bytes].view(np.float32).reshape(count, width)


class RowSpace:
    """Room for rows that is used again and again: fresh memory costs a page fault per 4 KiB, which
    for the logits of a full batch is a good part of a millisecond."""

    def __init__(self) -> None:
        self._floats: NDArray[np.float32] = aligned_rows(1, 0)[0]

    def rows(self, count: int, width: int) -> NDArray[np.float32]:
        """[count, width], not set, as `aligned_rows`; overwrites what was handed out before."""
        size = count * width
        if size > len(self._floats):
            self._floats = aligned_rows(1, size)[0]
        return self._floats[:size].reshape(count, width)
