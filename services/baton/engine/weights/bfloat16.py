"""Rounds float32 to bfloat16 as processors do: to the nearest, of two as near to the even one.

numpy has no such type: what is made are the bits.
"""

import numpy as np
from numpy.typing import NDArray

# Values rounded at once: the temporaries stay in the processor's caches.
CHUNK_VALUES = 1 << 15
QUIET_NAN = np.uint16(0x7FC0)


def narrowed(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the bfloat16 numbers next to `values`, of the same shape."""
    wide = np.ascontiguousarray(values).reshape(-1)
    narrow = np.empty(len(wide), np.uint16)
    for first in range(0, len(wide), CHUNK_VALUES):
        part = wide[first : first + CHUNK_VALUES]
        bits = part.view(np.uint32)
        odd = (bits >> 16) & 1
        odd += np.uint32(0x7FFF)  # half a step, and less by a bit where half of it must go down
        odd += bits
        odd >>= 16
        narrow[first : first + len(part)] = odd
        narrow[first : first + len(part)][np.isnan(part)] = QUIET_NAN
    return narrow.reshape(values.shape)
