"""Large stretches of zeroed memory, in large pages where the system has them.

Weights and KV are read at addresses far apart: with pages of 4 KiB, looking those up costs as much
as the reading itself.
"""

import mmap
import sys
from ctypes import addressof, c_char

import numpy as np
from numpy.typing import NDArray

CACHE_LINE_BYTES = 64


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
        self._next = addressof(c_char.from_buffer(self.memory))

    def take(self, size_bytes: int) -> int:
        """The address of the next `size_bytes`, at the start of a cache line."""
        address = self._next
        self._next += whole_lines(size_bytes)
        return address

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
