"""Gives back what loading a model needed and serving does not. Knows the allocator and the garbage
collector; knows no model."""

import ctypes
import gc


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
