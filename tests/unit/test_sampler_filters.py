"""The filters against an independent implementation, by sorting, in float64."""

import numpy as np
import pytest
from baton.engine.batch import SampleRequest
from baton.engine.filters import LIKELY_NATS, NEVER, Row, filter_row
from baton.engine.noise import Noise
from baton.engine.params import SamplingParams
from baton.engine.sampler import sample_rows
from numpy.typing import NDArray

VOCAB = 3_000
EVERY_TOKEN = np.arange(VOCAB)
Floats = NDArray[np.float64]

CASES = [
    {},
    {"temperature": 0.3},
    {"temperature": 2.5},
    {"top_k": 1},
    {"top_k": 40},
    {"top_k": VOCAB},
    {"top_k": VOCAB + 7},
    {"top_p": 0.5},
    {"top_p": 0.95},
    {"top_p": 1e-9},
    {"top_p": 0.999, "temperature": 4.0},
    {"min_p": 0.02},
    {"min_p": 1.0},
    {"temperature": 0.7, "min_p": 0.01, "top_k": 20, "top_p": 0.8},
]


def softmax(logits: Floats) -> Floats:
    weights: Floats = np.exp(logits - logits.max())
    weights /= weights.sum()
    return weights


def reference(logits: Floats, params: SamplingParams) -> Floats:
    """The distribution to draw from, filter after filter as vLLM defines them."""
    scaled = logits / params.temperature
    probabilities = softmax(scaled)
    scaled[probabilities < params.min_p * probabilities.max()] = -np.inf
    if params.top_k:
        for token in np.argsort(-scaled, kind="stable")[params.top_k :]:
            scaled[token] = -np.inf
    probabilities = softmax(scaled)
    total = 0.0
    for token in np.argsort(-probabilities, kind="stable"):
        if params.top_p < 1.0 and total >= params.top_p:
            probabilities[token] = 0.0
        total += probabilities[token]
    probabilities /= probabilities.sum()
    return probabilities


def row(seed: int) -> Row:
    drawn: Row = np.random.default_rng(seed).standard_normal(VOCAB, np.float32) * 2
    return drawn


@pytest.mark.parametrize("fields", CASES, ids=str)
def test_the_distribution_is_that_of_the_definition(fields: dict[str, float]) -> None:
    params = SamplingParams(max_tokens=1, **fields)  # type: ignore[arg-type]
    for seed in range(3):
        filtered = filter_row(row(seed), params)
        expected = reference(row(seed).astype(np.float64), params)
        assert softmax(filtered.astype(np.float64)) == pytest.approx(expected, abs=2e-6)
        assert np.array_equal(np.isfinite(filtered), expected > 0)


@pytest.mark.parametrize("fields", [{"top_p": 0.9}, {"top_k": 2_900}])
def test_what_is_kept_may_be_far_less_likely_than_the_likeliest(fields: dict[str, float]) -> None:
    params = SamplingParams(max_tokens=1, **fields)  # type: ignore[arg-type]
    flat = np.linspace(0, 0.1, VOCAB, dtype=np.float32)
    flat[7] = LIKELY_NATS + 1  # hardly a third of the mass, and nothing else near it
    flat[8:2_000] = 8.0
    kept = np.isfinite(filter_row(flat, params))
    expected = reference(flat.astype(np.float64), params) > 0
    assert kept.sum() > 1_000
    assert abs(int(kept.sum()) - int(expected.sum())) <= 1_991  # all that tie stay


def test_tokens_that_tie_at_the_border_all_stay() -> None:
    tied = np.array([2.0, 1.0, 1.0, 0.0], np.float32)
    kept = filter_row(tied, SamplingParams(max_tokens=1, top_k=2)) > NEVER
    assert kept.tolist() == [True, True, True, False]


@pytest.mark.parametrize("fields", CASES, ids=str)
def test_every_drawn_token_is_the_one_the_definition_draws(fields: dict[str, float]) -> None:
    params = [SamplingParams(max_tokens=1, seed=seed, **fields) for seed in range(200)]  # type: ignore[arg-type]
    requests = [SampleRequest(p, (), (), ()) for p in params]
    results = sample_rows(np.tile(row(5), (200, 1)), requests)
    with np.errstate(divide="ignore"):  # tokens that a filter dropped
        logprobs = np.log(reference(row(5).astype(np.float64), params[0]))
    for p, result in zip(params, results, strict=True):
        sums = logprobs + Noise(p.seed, 0, VOCAB).at(EVERY_TOKEN)
        assert result.sample is not None
        # within float32's noise of the best sum
        assert sums[result.sample.token_id] >= sums.max() - 1e-5
