"""Four prompts walked down every path of the road, each answer compared with transformers'.

Tolerance: log-probabilities within LOGPROB_TOLERANCE of transformers' (both float32). The greedy
margins of the prompts are checked to be ten times that, so that equal tokens are no luck.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from baton.engine.params import SamplingParams

from support.road import Answer, Road
from support.transformers_oracle import Continuation, Oracle

LOGPROB_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Texts:
    """Token ids; blocks have 16 tokens."""

    first: Sequence[int]  # 51 tokens: three full blocks and a part
    second: Sequence[int]  # begins with the first two blocks of `first`, lacks more than one block
    whole: Sequence[int]  # whole blocks only, shares nothing
    mixed: Sequence[int]  # begins with all of `second`


@dataclass(frozen=True)
class ContinuedTexts:
    texts: Texts
    first: Continuation
    second: Continuation
    whole: Continuation
    mixed: Continuation
    tolerance: float


def continued(
    oracle: Oracle, texts: Texts, count: int, tolerance: float = LOGPROB_TOLERANCE
) -> ContinuedTexts:
    return ContinuedTexts(
        texts,
        oracle.greedy(texts.first, count),
        oracle.greedy(texts.second, count),
        oracle.greedy(texts.whole, count),
        oracle.greedy(texts.mixed, count),
        tolerance,
    )


def check_continuation(
    answer: Answer, expected: Continuation, tolerance: float = LOGPROB_TOLERANCE
) -> None:
    assert expected.margin > 10 * tolerance, "the prompt is too near a tie to prove much"
    assert answer.error == ""
    assert answer.tokens == expected.tokens
    for sample, row in zip(answer.samples, expected.logprobs, strict=True):
        assert sample.logprob == pytest.approx(float(row[sample.token_id]), abs=tolerance)
        best = torch.topk(row, len(sample.top))
        for entry, value in zip(sample.top, best.values, strict=True):
            assert entry.logprob == pytest.approx(float(value), abs=tolerance)


async def walk_every_path(road: Road, expected: ContinuedTexts, *, params: SamplingParams) -> None:
    """Needs one prefill and three decode workers, all cold."""
    texts, tolerance = expected.texts, expected.tolerance

    # Computed on decode alone.
    local = await road.ask(texts.first, params, decode=0, prefill=None)
    check_continuation(local, expected.first, tolerance)
    assert (local.path, local.cached_tokens) == ("local:no_prefill", 0)
    again = await road.ask(texts.first, params, decode=0, prefill=None)
    check_continuation(again, expected.first, tolerance)
    assert again.cached_tokens == 48
    partial = await road.ask(texts.second, params, decode=0, prefill=None)
    check_continuation(partial, expected.second, tolerance)
    assert partial.cached_tokens == 32

    # Through the hand-off, cold on both sides, then partial on both.
    cold = await road.ask(texts.first, params, decode=1)
    check_continuation(cold, expected.first, tolerance)
    assert (cold.path, cold.cached_tokens) == ("remote", 0)
    both = await road.ask(texts.second, params, decode=1)
    check_continuation(both, expected.second, tolerance)
    assert (both.path, both.cached_tokens) == ("remote", 32)

    # Prefill has everything, decode nothing; then decode has all but the last tokens.
    warm = await road.ask(texts.first, params, decode=2)
    check_continuation(warm, expected.first, tolerance)
    assert (warm.path, warm.cached_tokens) == ("remote", 48)
    held = await road.ask(texts.first, params, decode=2)
    check_continuation(held, expected.first, tolerance)
    assert (held.path, held.cached_tokens) == ("local:cached", 48)

    # Decode holds a part that prefill does not: its blocks are skipped, not sent.
    ahead = await road.ask(texts.whole, params, decode=0)
    check_continuation(ahead, expected.whole, tolerance)
    assert ahead.path == "remote"
    mixed = await road.ask(texts.mixed, params, decode=0)
    check_continuation(mixed, expected.mixed, tolerance)
    assert mixed.path == "remote"
