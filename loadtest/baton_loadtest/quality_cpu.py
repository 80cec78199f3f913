"""Readers for `quality` on the processor: schemes compute as they serve, on our kernels where there
are some. Knows step models and caches; judges nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from baton.engine.batch import BatchSlice
from baton.engine.kernels.selection import Kernels, choose_library
from baton.engine.kvcache import PagedKvCache
from baton.engine.models.step_model import build_step_model
from baton.engine.models.steps import StepModel
from baton.engine.runner import CpuRunner, empty_cache
from baton.engine.weights.open import open_weights
from baton.model.config import ModelConfig
from baton.model.fetch import LocalModel

from baton_loadtest.local_engine import local_engine
from baton_loadtest.quality import (
    CONTINUATION_TOKENS,
    CONTINUATIONS_MAX,
    PROMPT_TOKENS,
    Variant,
    continued,
    row_parts,
)

BLOCK_TOKENS = 16


@dataclass(frozen=True, slots=True)
class CpuReader:
    """Implements Reader."""

    model: StepModel
    cache: PagedKvCache

    def log_probabilities(self, tokens: Sequence[int]) -> Iterator[torch.Tensor]:
        blocks = range(-(-len(tokens) // self.cache.block_size))
        rows = self.model.compute([BatchSlice("window", tokens, 0, blocks)], self.cache)
        for part in row_parts(len(tokens)):
            logits = self.model.logits(rows.hidden[part.start : part.stop])
            yield torch.from_numpy(logits).log_softmax(-1)

    def continuations(self, windows: Sequence[Sequence[int]]) -> list[list[int]]:
        return continued(local_engine(CpuRunner(self.model, self.cache)), windows)


def cpu_loader(
    local: LocalModel, config: ModelConfig, *, window_tokens: int, threads: int
) -> Callable[[Variant], CpuReader]:
    """Readers of a model's files, with room for a window or all continuations."""
    written = CONTINUATIONS_MAX * (PROMPT_TOKENS + CONTINUATION_TOKENS)
    blocks = -(-max(window_tokens, written) // BLOCK_TOKENS) + CONTINUATIONS_MAX

    def load(variant: Variant) -> CpuReader:
        scheme, kv = variant.scheme, variant.kv
        library = choose_library(Kernels.AUTO, scheme, experts=config.experts)
        with open_weights(local, config) as source:
            model = build_step_model(source, config, scheme, library=library, threads=threads)
        return CpuReader(model, empty_cache(config, scheme, blocks, BLOCK_TOKENS, kv))

    return load
