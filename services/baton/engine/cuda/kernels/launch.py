"""How every kernel here is launched: ahead of the end of the one before it, where a device can.

A decode step is some three hundred kernels of a few microseconds each. From Hopper on a kernel may
be put on the multiprocessors as soon as every program of the one before it has begun, and wait
there: launching costs nothing then, and weights, which no kernel writes, can be on their way.

What keeps that correct is one rule: every program lets the next kernel start and waits, before it
touches what another kernel writes and before it may return. A kernel has then not ended before all
kernels ahead of it have, so waiting for one is waiting for all. Knows launches; knows no kernel.
"""

from functools import cache
from typing import Any

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
from triton.runtime import driver
from triton.runtime.jit import JITFunction

EARLY_FROM = 90
"""Compute capability, in tenths, of the first devices that start a kernel early."""


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Launch `kernel`, whose constant `early` says whether it starts before what it reads is
    written."""
    # an interpreted kernel runs when it is called
    early = isinstance(kernel, JITFunction) and _device_starts_early()
    how = {"launch_pdl": True} if early else {}
    kernel[grid](*arguments, early=early, **constants, **how)


@cache
def _device_starts_early() -> bool:
    target = driver.active.get_current_target()
    return bool(target.backend == "cuda" and target.arch >= EARLY_FROM)


@triton.jit
def begin(early: tl.constexpr):
    """The first statement of a kernel."""
    let_next_start(early)
    wait_for_earlier(early)


@triton.jit
def let_next_start(early: tl.constexpr):
    """For kernels that have something to do before they wait; those call the other one, too."""
    if early:
        gdc_launch_dependents()


@triton.jit
def wait_for_earlier(early: tl.constexpr):
    """Until all kernels ahead have ended, and what they wrote can be read."""
    if early:
        gdc_wait()


@triton.jit
def ask_for(addresses):
    """Have lines of memory on their way into the second cache, before the wait too: it is where
    writes become one, so a line that is written later is fetched in vain and never wrong."""
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.b32 $0, 0;",
        "=r,l",
        [addresses.to(tl.uint64)],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )
