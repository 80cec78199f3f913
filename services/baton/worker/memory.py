"""Keeps freed memory at hand while a model is loaded, and gives back what serving does not need.

Knows the allocator and the garbage collector; knows no model.
"""

import ctypes
import gc

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""

MAPPED_BYTES_MIN = 16 * 1024 * 1024
"""Arrays of this size and more, an embedding or a head, are given back when they are freed."""

FREE_BYTES_MAX = 64 * 1024 * 1024
"""Kept at the heap's end for the next arrays: a layer's in float32, of small models."""


def keep_freed() -> None:
    """To be called once, before loading.

    Weights pass through arrays of a few MiB, freed one by one. Left alone, glibc gives each back to
    the system and faults the next one in anew: a third of the time that SmolLM2 takes to load.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc's
        mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES_MIN)
        mallopt(M_TRIM_THRESHOLD, FREE_BYTES_MAX)


def settle() -> None:
    """To be called once, between loading and serving. Takes some 30 ms.

    Dequantizing weights leaves the heap full of holes: with SmolLM2 in int8 glibc kept up to 350 of
    1,120 MB resident that nobody used. And whatever is alive now lives as long as the process, so
    full collections need not walk it: with torch loaded each took 0.1 s, in the middle of a step.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc's; other allocators give back by themselves
        trim(0)
    gc.freeze()
