"""`baton-loadtest quality`: what each compute scheme costs in answers, measured against float32.

Story: float32 writes its continuations; then each scheme is loaded beside it, both read the same
windows of text, and the scheme writes continuations of its own. The two run side by side so that
no distribution over the vocabulary need be kept. Schemes compute as they serve, on our kernels
where there are some. Knows step models; the numbers are `quality_stats`'.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from baton.engine.batch import BatchSlice
from baton.engine.kernels.selection import Kernels, choose_library
from baton.engine.kvcache import PagedKvCache
from baton.engine.models.step_model import build_step_model
from baton.engine.models.steps import StepModel
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import CPU_SCHEMES, Quantization
from baton.engine.runner import CpuRunner, empty_cache
from baton.engine.weights.open import open_weights
from baton.model.config import ModelConfig
from baton.model.fetch import LocalModel

from baton_loadtest.local_engine import greedy, local_engine
from baton_loadtest.quality_stats import Quality, Scored, judge, total

PROMPT_TOKENS = 64
"""Of each window: what a free continuation starts from."""

CONTINUATION_TOKENS = 64

CONTINUATIONS_MAX = 8
"""Enough for a mean; more would take longer than reading the text does."""

ROWS_AT_ONCE = 64
"""64 rows of a 128k vocabulary are 32 MiB, and a comparison holds some six tensors of that size."""

BLOCK_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to compute: what the weights are, and what the KV cache holds."""

    scheme: Quantization
    kv: KvCacheDtype = KvCacheDtype.AUTO

    @property
    def name(self) -> str:
        auto = self.kv is KvCacheDtype.AUTO
        return self.scheme.value if auto else f"{self.scheme.value}, {self.kv.value} KV"


VARIANTS = (
    *(Variant(scheme) for scheme in CPU_SCHEMES),
    Variant(Quantization.NONE, KvCacheDtype.INT8),
    Variant(Quantization.INT8, KvCacheDtype.BFLOAT16),
)
"""Every scheme as it serves by itself; then what 8-bit KV costs alone, and 8-bit weights without
it."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A model that reads and writes, with a cache of its own."""

    model: StepModel
    cache: PagedKvCache

    def log_probabilities(self, tokens: Sequence[int]) -> Iterator[torch.Tensor]:
        """Of every next token at every position but the last, [ROWS_AT_ONCE, vocab] at a time."""
        blocks = range(-(-len(tokens) // self.cache.block_size))
        rows = self.model.compute([BatchSlice("window", tokens, 0, blocks)], self.cache)
        for first in range(0, len(tokens) - 1, ROWS_AT_ONCE):
            part = rows.hidden[first : min(first + ROWS_AT_ONCE, len(tokens) - 1)]
            yield torch.from_numpy(self.model.logits(part)).log_softmax(-1)

    def continuations(self, windows: Sequence[Sequence[int]]) -> list[list[int]]:
        """What it writes, greedily, after the beginning of each window."""
        prompts = [window[:PROMPT_TOKENS] for window in windows[:CONTINUATIONS_MAX]]
        return greedy(local_engine(CpuRunner(self.model, self.cache)), prompts, CONTINUATION_TOKENS)


class Loader(Protocol):
    """Makes the reader of a variant; called when it is that variant's turn."""

    def __call__(self, variant: Variant) -> Reader: ...


class Listener(Protocol):
    def __call__(self, text: str) -> None: ...


def measure_quality(
    load: Loader,
    variants: Sequence[Variant],
    windows: Sequence[Sequence[int]],
    listener: Listener,
) -> tuple[Quality, ...]:
    """One row per variant, in their order; two readers are in memory at a time."""
    with torch.inference_mode():
        listener("float32: continuations")
        reference = load(Variant(Quantization.NONE))
        continuations = reference.continuations(windows)
        rows: list[Quality] = []
        for variant in variants:
            listener(f"{variant.name}: reading and continuing")
            rows.append(compare(variant.name, reference, load(variant), windows, continuations))
        return tuple(rows)


def compare(
    name: str,
    reference: Reader,
    reader: Reader,
    windows: Sequence[Sequence[int]],
    reference_continuations: Sequence[Sequence[int]],
) -> Quality:
    """`reader` against `reference`, which has written its continuations already."""
    scored = total(score_window(reference, reader, window) for window in windows)
    return judge(name, scored, reference_continuations, reader.continuations(windows))


def score_window(reference: Reader, reader: Reader, window: Sequence[int]) -> Scored:
    """Both read the window; every token but the first is scored."""
    following = torch.split(torch.tensor(window[1:]), ROWS_AT_ONCE)
    pairs = zip(reference.log_probabilities(window), reader.log_probabilities(window), strict=True)
    return total(
        score_rows(expected, found, tokens)
        for (expected, found), tokens in zip(pairs, following, strict=True)
    )


def score_rows(expected: torch.Tensor, found: torch.Tensor, following: torch.Tensor) -> Scored:
    """Log-probabilities [R, vocab] of reference and scheme, and the tokens that follow [R]."""
    likelihood = [side.gather(1, following[:, None]).double() for side in (expected, found)]
    divergence = (expected.exp() * (expected - found)).sum(dtype=torch.float64)
    return Scored(
        positions=len(following),
        reference_nats=-float(likelihood[0].sum()),
        scheme_nats=-float(likelihood[1].sum()),
        divergence_nats=float(divergence),
        agreed=int((expected.argmax(1) == found.argmax(1)).sum()),
    )


def model_loader(
    local: LocalModel, config: ModelConfig, *, window_tokens: int, threads: int
) -> Loader:
    """Readers of a model's files, with room for a window or all continuations."""
    written = CONTINUATIONS_MAX * (PROMPT_TOKENS + CONTINUATION_TOKENS)
    blocks = -(-max(window_tokens, written) // BLOCK_TOKENS) + CONTINUATIONS_MAX

    def load(variant: Variant) -> Reader:
        scheme, kv = variant.scheme, variant.kv
        library = choose_library(Kernels.AUTO, scheme, kv=kv, experts=config.experts)
        with open_weights(local, config) as source:
            model = build_step_model(source, config, scheme, library=library, threads=threads)
        return Reader(model, empty_cache(config, scheme, blocks, BLOCK_TOKENS, kv))

    return load
