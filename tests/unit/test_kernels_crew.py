"""Who computes a step: the caller with its crew, one thread, or a crew that stands back."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from baton.engine.batch import BatchSlice
from baton.engine.models.native import NativeDecoder
from baton.engine.models.step_model import build_step_model
from baton.engine.models.steps import Rows
from baton.engine.quant.quantization import Quantization
from baton.engine.runner import empty_cache
from baton.engine.weights.random_weights import RandomWeights
from support.kernels import kernels
from support.random_model import CONFIG

NICENESS = 7
TASKS = Path("/proc/self/task")

STEPS_TO_BEGIN = 200  # a busy machine may let a thread begin late; runs do not wait for it
TOKENS = [7 * i % 200 for i in range(200)]
CHUNKS = (150, 30, *[1] * 20)  # rows of their own, blocks of them, panels


def new_decoder(threads: int, niceness: int = NICENESS) -> NativeDecoder:
    model = build_step_model(
        RandomWeights(CONFIG, 1),
        CONFIG,
        Quantization.INT8,
        library=kernels(),
        threads=threads,
        niceness=niceness,
    )
    assert isinstance(model, NativeDecoder)
    return model


def hidden_rows(model: NativeDecoder, stands_back: Iterator[bool]) -> Rows:
    """[200, hidden]; each step as the next of `stands_back` says."""
    cache = empty_cache(CONFIG, Quantization.INT8, 16, 16)
    found, start = [], 0
    for length in CHUNKS:
        piece = BatchSlice("a", TOKENS[start : start + length], start, list(range(13)))
        found.append(model.compute([piece], cache, stands_back=next(stands_back)).hidden.copy())
        start += length
    return np.concatenate(found)


def pattern(*standing: bool) -> Iterator[bool]:
    while True:
        yield from standing


def threads_that_are(niceness: int) -> int:
    return sum(
        os.getpriority(os.PRIO_PROCESS, int(task.name)) == niceness for task in TASKS.iterdir()
    )


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("standing", [(True,), (True, False), (False, True, True)])
def test_a_step_has_the_same_bits_whoever_computes_it(
    threads: int, standing: tuple[bool, ...]
) -> None:
    expected = hidden_rows(new_decoder(1), pattern(False))
    model = new_decoder(threads)
    for _ in range(5):
        assert np.array_equal(hidden_rows(model, pattern(*standing)), expected)


def test_without_niceness_nobody_stands_back_and_steps_are_computed_all_the_same() -> None:
    expected = hidden_rows(new_decoder(1), pattern(False))
    assert np.array_equal(hidden_rows(new_decoder(2, niceness=0), pattern(True)), expected)


@pytest.mark.skipif(sys.platform != "linux", reason="threads are nice on Linux only")
def test_the_crew_that_stands_back_is_nicer_and_nobody_else() -> None:
    gc.collect()  # decoders of other tests end their threads now, not while ours are counted
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    before = threads_that_are(ours)
    model = new_decoder(3)
    for _ in range(STEPS_TO_BEGIN):
        hidden_rows(model, pattern(True))
        if threads_that_are(ours + NICENESS) == 3:
            break
    assert threads_that_are(ours + NICENESS) == 3
    assert threads_that_are(ours) == before + 2
    assert os.getpriority(os.PRIO_PROCESS, 0) == ours


def test_the_time_of_a_step_is_told_whoever_computes_it() -> None:
    model = new_decoder(2)
    hidden_rows(model, pattern(True))
    assert all(seconds > 0 for seconds in model.time_spent)
