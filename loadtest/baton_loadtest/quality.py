"""What each compute scheme costs in answers, measured against float32 on the processor.

Story: float32 writes its continuations; then each scheme is loaded beside it, both read the same
windows of text, and the scheme writes continuations of its own. The two run side by side so that
no distribution over the vocabulary need be kept. Knows neither engines nor devices: `quality_cpu`
and `quality_device` make readers that compute as they serve; the numbers are `quality_stats`'.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from baton.engine.engine import Engine
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import CPU_SCHEMES, CUDA_SCHEMES, Quantization

from baton_loadtest.local_engine import greedy
from baton_loadtest.quality_stats import Quality, Scored, judge, total

PROMPT_TOKENS = 64
"""Of each window: what a free continuation starts from."""

CONTINUATION_TOKENS = 64

CONTINUATIONS_MAX = 8
"""Enough for a mean; more would take longer than reading the text does."""

ROWS_AT_ONCE = 64
"""64 rows of a 128k vocabulary are 32 MiB, and a comparison holds some six tensors of that size."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to compute: what the weights are, and what the KV cache holds."""

    scheme: Quantization
    kv: KvCacheDtype = KvCacheDtype.AUTO

    @property
    def name(self) -> str:
        auto = self.kv is KvCacheDtype.AUTO
        return self.scheme.value if auto else f"{self.scheme.value}, {self.kv.value} KV"


CPU_VARIANTS = (
    *(Variant(scheme) for scheme in CPU_SCHEMES),
    Variant(Quantization.NONE, KvCacheDtype.INT8),
    Variant(Quantization.INT8, KvCacheDtype.BFLOAT16),
)
"""Every scheme as it serves by itself; then what 8-bit KV costs alone, and 8-bit weights without
it."""

DEVICE_VARIANTS = (
    *(Variant(scheme) for scheme in CUDA_SCHEMES),
    Variant(Quantization.NONE, KvCacheDtype.INT8),
    Variant(Quantization.NONE, KvCacheDtype.FP8),
    Variant(Quantization.INT8, KvCacheDtype.BFLOAT16),
    Variant(Quantization.FP8, KvCacheDtype.FP8),
)
"""The same on a CUDA device, which also has 8-bit floats: alone in the KV, and throughout."""


class Reader(Protocol):
    """A model that reads and writes, with a cache of its own."""

    def log_probabilities(self, tokens: Sequence[int]) -> Iterator[torch.Tensor]:
        """Of every next token at every position but the last, [ROWS_AT_ONCE, vocab] at a time."""
        ...

    def continuations(self, windows: Sequence[Sequence[int]]) -> list[list[int]]:
        """What it writes, greedily, after the beginning of each window."""
        ...


Loader = Callable[[Variant], Reader]
"""Makes the reader of a variant; called when it is that variant's turn."""


class Listener(Protocol):
    def __call__(self, text: str) -> None: ...


def measure_quality(
    reference: Reader,
    load: Loader,
    variants: Sequence[Variant],
    windows: Sequence[Sequence[int]],
    listener: Listener,
) -> tuple[Quality, ...]:
    """One row per variant, in their order; two readers are in memory at a time."""
    with torch.inference_mode():
        listener("float32: continuations")
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


def row_parts(tokens: int) -> Iterator[range]:
    """The rows of a window that are scored, ROWS_AT_ONCE at a time."""
    for first in range(0, tokens - 1, ROWS_AT_ONCE):
        yield range(first, min(first + ROWS_AT_ONCE, tokens - 1))


def continued(engine: Engine, windows: Sequence[Sequence[int]]) -> list[list[int]]:
    """What an idle engine writes, greedily, after the beginning of each window."""
    prompts = [window[:PROMPT_TOKENS] for window in windows[:CONTINUATIONS_MAX]]
    return greedy(engine, prompts, CONTINUATION_TOKENS)
