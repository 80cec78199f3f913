"""Kernels built for different processors: workers on unlike nodes continue each other's answers."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from baton.engine.batch import BatchSlice
from baton.engine.kernels.build import (
    LEVELS,
    KernelsUnavailable,
    compile_library,
    cpu_flags,
    find_compiler,
)
from baton.engine.kernels.library import KernelLibrary
from baton.engine.models.step_model import build_step_model
from baton.engine.models.steps import Rows
from baton.engine.quant.quantization import Quantization
from baton.engine.runner import empty_cache
from baton.engine.weights.random_weights import RandomWeights
from baton.model.config import ModelConfig
from support.random_model import CONFIG

# inputs and heads of whole matrix registers, and not
CONFIGS = {
    "whole": replace(CONFIG, hidden_size=128, intermediate_size=192, head_size=64),
    "odd": CONFIG,
}
TOKENS = [7 * i % 200 for i in range(150)]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> list[KernelLibrary]:
    """One per level that this processor can run."""
    levels = [level for level in LEVELS if level.needs <= cpu_flags()]
    if len(levels) < 2:
        pytest.skip("this processor runs kernels of one level at most")
    try:
        compiler = find_compiler(os.environ)
    except KernelsUnavailable as error:
        pytest.skip(error.message)
    folder: Path = tmp_path_factory.mktemp("levels")
    for level in levels:
        compile_library(compiler, level, folder / level.name)
    return [KernelLibrary(folder / level.name) for level in levels]


def logits(library: KernelLibrary, config: ModelConfig, quantization: Quantization) -> Rows:
    """[150, vocab]: a prompt in two chunks."""
    model = build_step_model(
        RandomWeights(config, 1), config, quantization, library=library, threads=2
    )
    cache = empty_cache(config, quantization, 16, 16)
    hidden = [
        model.compute(
            [BatchSlice("a", TOKENS[first:end], first, list(range(10)))], cache
        ).hidden.copy()
        for first, end in ((0, 100), (100, 150))
    ]
    return model.logits(np.concatenate(hidden))


# bfloat16 is not among them: the instructions that multiply its pairs add in orders of their own.
@pytest.mark.parametrize("quantization", [Quantization.NONE, Quantization.INT8, Quantization.INT4])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_all_levels_compute_the_same_bits(
    libraries: list[KernelLibrary], config: ModelConfig, quantization: Quantization
) -> None:
    first, *others = (logits(library, config, quantization) for library in libraries)
    for other in others:
        assert np.array_equal(other, first)
