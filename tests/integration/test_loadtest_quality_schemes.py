"""A scheme that computes worse is seen to be worse, on a real if tiny model."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from baton.engine.batch import BatchSlice
from baton.engine.kvcache import PagedKvCache
from baton.engine.models.steps import Rows, StepRows, best_tokens
from baton.engine.quant.quantization import Quantization
from baton.model.card import read_config
from baton_loadtest.quality import CPU_VARIANTS, Variant, compare, measure_quality
from baton_loadtest.quality_cpu import CpuReader, cpu_loader
from support.tiny_models import tiny_model

Load = Callable[[Variant], CpuReader]
WINDOWS = [tuple((7 * index + shift) % 90 + 10 for index in range(96)) for shift in (0, 31)]


class Damaged:
    """A model whose logits have lost most of their digits."""

    def __init__(self, reader: CpuReader, noise: float) -> None:
        self._model, self._noise = reader.model, noise
        self._generator = np.random.default_rng(0)
        self.config = self._model.config

    def compute(
        self, slices: Sequence[BatchSlice], cache: PagedKvCache, *, stands_back: bool = False
    ) -> StepRows:
        rows = self._model.compute(slices, cache, stands_back=stands_back)
        logits = self._shaken(rows.logits)
        return rows._replace(logits=logits, best=best_tokens(logits))

    def logits(self, hidden: Rows) -> Rows:
        return self._shaken(self._model.logits(hidden))

    def _shaken(self, logits: Rows) -> Rows:
        noise = self._generator.standard_normal(logits.shape, np.float32)
        return logits + np.float32(self._noise) * noise


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    directory: Path = tmp_path_factory.mktemp("quality")
    model = tiny_model("llama", directory)
    return cpu_loader(model, read_config(model), window_tokens=96, threads=1)


def test_schemes_are_ordered_by_what_they_round(load: Load) -> None:
    rows = measure_quality(
        load(Variant(Quantization.NONE)), load, CPU_VARIANTS, WINDOWS, lambda text: None
    )
    found = {row.scheme: row for row in rows}
    assert found["none"].perplexity_ratio == 1.0
    assert found["none"].divergence_mean_nats == pytest.approx(0, abs=1e-9)
    assert found["none"].agreement == 1.0
    assert found["none"].common_prefix_mean == found["none"].continuation_tokens
    divergences = [
        found[name].divergence_mean_nats for name in ("none", "bf16", "int8", "int4-weight-only")
    ]
    assert divergences == sorted(divergences)
    # int8 keeps int8 KV by itself: that costs something, and less than the weights do.
    assert 0 < found["none, int8 KV"].divergence_mean_nats < found["int8"].divergence_mean_nats
    assert found["int8-weight-only"].divergence_mean_nats < divergences[-1]


def test_a_damaged_model_is_seen_as_worse(load: Load) -> None:
    with torch.inference_mode():
        reference = load(Variant(Quantization.NONE))
        continuations = reference.continuations(WINDOWS)
        rows = [
            compare(
                str(noise),
                reference,
                replace(reference, model=Damaged(reference, noise)),
                WINDOWS,
                continuations,
            )
            for noise in (0.0, 0.5, 3.0)
        ]
    divergences = [row.divergence_mean_nats for row in rows]
    agreements = [row.agreement for row in rows]
    prefixes = [row.common_prefix_mean for row in rows]
    assert rows[0].perplexity_ratio == 1.0
    assert divergences == sorted(divergences)
    assert divergences[2] > 1.0
    assert agreements == sorted(agreements, reverse=True)
    assert agreements[2] < 0.8
    assert prefixes == sorted(prefixes, reverse=True)
    assert prefixes[2] < 10
