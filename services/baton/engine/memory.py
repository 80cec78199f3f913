"""Large stretches of zeroed memory, in large pages where the system has them.

Weights and KV are read at addresses far apart: with pages of 4 KiB, looking those up costs as much
as the reading itself.
"""

import mmap
from ctypes import addressof, c_char

CACHE_LINE_BYTES = 64


class Arena:
    """One stretch of memory, handed out from its start. It lives as long as the object, or as any
    tensor over `memory`.
    """

    def __init__(self, size_bytes: int) -> None:
        self.memory = mmap.mmap(-1, max(size_bytes, mmap.PAGESIZE))
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self.memory.madvise(mmap.MADV_HUGEPAGE)
        self._next = addressof(c_char.from_buffer(self.memory))

    def take(self, size_bytes: int) -> int:
        """The address of the next `size_bytes`, at the start of a cache line."""
        address = self._next
        self._next += whole_lines(size_bytes)
        return address


def whole_lines(size_bytes: int) -> int:
    """`size_bytes` rounded up to cache lines: what `take` uses up."""
    return -(-size_bytes // CACHE_LINE_BYTES) * CACHE_LINE_BYTES
