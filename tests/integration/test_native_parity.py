"""Our kernels against the torch path on real files: every family, every scheme, then SmolLM2.

Both paths round alike but for torch's bfloat16 products, which it rounds once more. What is left is
the order of sums. In float32 it stays in the last bits. In 8 bits a last bit moves a level where a
value lies on a border, a moved level moves more of them in the next layer, and thirty layers on the
roundings of the two paths have nothing in common: they are as far apart as two runs of one path of
which one had a norm's weights changed by a millionth. So a deep model is measured by that, and one
layer by itself.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from baton.engine.batch import BatchSlice, StepBatch
from baton.engine.kernels.selection import SCHEMES, Kernels, choose_library
from baton.engine.kvcache import PagedKvCache
from baton.engine.models.native import NativeDecoder
from baton.engine.models.step_model import build_step_model
from baton.engine.models.steps import StepModel
from baton.engine.quant.quantization import Quantization
from baton.engine.runner import CpuRunner, empty_cache
from baton.engine.weights.open import open_weights
from baton.engine.weights.parts import Floats, Part, WeightSource
from baton.model.card import read_config
from baton.model.fetch import LocalModel
from support.kernels import kernels
from support.smollm2 import smollm2_model
from support.tiny_models import TINY_MODELS, tiny_model

BLOCK_SIZE, BLOCK_COUNT = 8, 64
TOKENS = [(17 * i * i + 5 * i) % 290 + 3 for i in range(200)]
TABLE = list(range(BLOCK_COUNT - 1, BLOCK_COUNT - 27, -1))
# Mean difference of the log-probabilities of plausible tokens; 3e-6, 0.036, 0.041, 0.040 and 0.050
# were seen.
TOLERANCES = {
    Quantization.NONE: 1e-5,
    Quantization.BF16: 0.05,
    Quantization.INT8: 0.06,
    Quantization.INT8_WEIGHT_ONLY: 0.06,
    Quantization.INT4_WEIGHT_ONLY: 0.075,
    Quantization.INT4: 0.06,
}
PLAUSIBLE = -8.0  # log-probability
# SmolLM2 in 8 bits over made-up tokens: how much further from torch's than a shaken weight takes it
# (1.04 was seen: 0.088 and 0.085), and the share of positions with float32's best token (0.88).
SHAKEN_BY, ON_TORCH_TIMES_MAX, AGREEMENT_MIN = 1e-6, 1.3, 0.8
# The size of the difference after one of its layers, relative to the rows' (0.0022 was seen).
ONE_LAYER_MAX = 0.004


@dataclass(frozen=True)
class Side:
    """A model on one path, with a cache of its own."""

    model: StepModel
    cache: PagedKvCache


class ShakenWeights:
    """Weights of which the first norm's are changed by about SHAKEN_BY of themselves."""

    def __init__(self, source: WeightSource) -> None:
        self._source = source

    def fetch(self, part: Part, layer: int | None = None) -> Floats:
        array = self._source.fetch(part, layer)
        if (part, layer) == (Part.ATTENTION_NORM, 0):
            shaken = np.random.default_rng(1).standard_normal(array.shape, np.float32)
            array *= 1 + np.float32(SHAKEN_BY) * shaken
        return array


def load(
    local: LocalModel,
    quantization: Quantization,
    choice: Kernels,
    *,
    layers: int | None = None,
    shaken: bool = False,
) -> Side:
    config = read_config(local)
    config = replace(config, layers=layers or config.layers)
    if choice is Kernels.AUTO:
        kernels()  # skips the test where there are none
    library = choose_library(choice, quantization)
    with open_weights(local, config) as source:
        weights = ShakenWeights(source) if shaken else source
        model = build_step_model(weights, config, quantization, library=library, threads=2)
    return Side(model, empty_cache(config, quantization, BLOCK_COUNT, BLOCK_SIZE))


def logprobs(side: Side, chunk: int = 10_000) -> torch.Tensor:
    """[T, vocab] of the token after each of TOKENS, beside another request."""
    found = []
    for start in range(0, len(TOKENS), chunk):
        other = BatchSlice("other", [5, 6, 7], 0, [0])
        piece = BatchSlice("a", TOKENS[start : start + chunk], start, TABLE)
        rows = side.model.compute([other, piece], side.cache)
        first = rows.firsts[1]
        own = rows.hidden[first : first + len(piece.token_ids)]
        found.append(torch.from_numpy(side.model.logits(own)).log_softmax(-1))
    return torch.cat(found)


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected)[expected > PLAUSIBLE].abs().mean())


@pytest.mark.parametrize("quantization", SCHEMES)
@pytest.mark.parametrize("variant", TINY_MODELS)
def test_every_family_has_the_logits_of_the_torch_path(
    variant: str, quantization: Quantization, tmp_path: Path
) -> None:
    model = tiny_model(variant, tmp_path)
    native = load(model, quantization, Kernels.AUTO)
    assert isinstance(native.model, NativeDecoder)
    expected = logprobs(load(model, quantization, Kernels.TORCH))
    found = logprobs(native)
    assert difference(found, expected) < TOLERANCES[quantization]
    for chunk in (1, 16, 23):
        assert torch.equal(logprobs(native, chunk), found)


@pytest.mark.smollm2
def test_smollm2_in_8_bits_is_near_the_torch_path_and_near_fp32() -> None:
    model = smollm2_model()
    native = load(model, Quantization.INT8, Kernels.AUTO)
    found = logprobs(native)
    on_torch = difference(found, logprobs(load(model, Quantization.INT8, Kernels.TORCH)))
    shaken = difference(found, logprobs(load(model, Quantization.INT8, Kernels.AUTO, shaken=True)))
    exact = logprobs(load(model, Quantization.NONE, Kernels.AUTO))
    agreement = float((found.argmax(1) == exact.argmax(1)).float().mean())
    assert on_torch < ON_TORCH_TIMES_MAX * shaken
    assert agreement > AGREEMENT_MIN
    assert torch.equal(logprobs(native, 37), found)


@pytest.mark.smollm2
def test_one_layer_of_smollm2_in_8_bits_is_that_of_the_torch_path() -> None:
    rows = []
    for choice in Kernels:
        side = load(smollm2_model(), Quantization.INT8, choice, layers=1)
        rows.append(side.model.compute([BatchSlice("a", TOKENS, 0, TABLE)], side.cache).hidden)
    assert np.linalg.norm(rows[0] - rows[1]) < ONE_LAYER_MAX * np.linalg.norm(rows[1])


@pytest.mark.smollm2
def test_a_step_through_the_runner_is_the_models_own() -> None:
    """What `logprobs` reads is what a request would be told."""
    native = load(smollm2_model(), Quantization.INT8, Kernels.AUTO)
    piece = BatchSlice("a", TOKENS, 0, TABLE, prompt_logprobs=1, next_token_ids=TOKENS[1:])
    [result] = CpuRunner(native.model, native.cache).run(StepBatch((piece,)))
    best = [sample.top[0].token_id for sample in result.prompt_logprobs]
    assert best == logprobs(native)[:-1].argmax(1).tolist()
