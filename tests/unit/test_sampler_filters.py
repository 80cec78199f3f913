"""The filters against an independent implementation, by sorting, in float64."""

import numpy as np
import pytest
import torch
from baton.engine.batch import SampleRequest
from baton.engine.filters import NUCLEUS_CANDIDATES, filter_rows
from baton.engine.noise import gumbel
from baton.engine.params import SamplingParams
from baton.engine.sampler import sample_rows
from numpy.typing import NDArray

VOCAB = 3_000  # more than the candidates, so that wide nuclei are sorted in full
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


def row(seed: int) -> torch.Tensor:
    return torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(seed)) * 2


@pytest.mark.parametrize("fields", CASES, ids=str)
def test_the_distribution_is_that_of_the_definition(fields: dict[str, float]) -> None:
    params = SamplingParams(max_tokens=1, **fields)  # type: ignore[arg-type]
    for seed in range(3):
        filtered = filter_rows(row(seed), [params])[0]
        ours = filtered.double().softmax(-1).numpy()
        expected = reference(row(seed)[0].double().numpy(), params)
        assert ours == pytest.approx(expected, abs=2e-6)
        assert np.array_equal(filtered.isfinite().numpy(), expected > 0)


def test_rows_with_unlike_parameters_are_filtered_each_by_its_own() -> None:
    params = [SamplingParams(max_tokens=1, **fields) for fields in CASES]  # type: ignore[arg-type]
    logits = torch.cat([row(seed) for seed in range(len(params))])
    together = filter_rows(logits, params)
    for index, one in enumerate(params):
        assert torch.equal(together[index], filter_rows(row(index), [one])[0])


def test_a_nucleus_wider_than_the_candidates_is_found() -> None:
    flat = torch.linspace(0, 0.1, VOCAB).unsqueeze(0)
    kept = filter_rows(flat, [SamplingParams(max_tokens=1, top_p=0.9)]).isfinite().sum()
    expected = (reference(flat[0].double().numpy(), SamplingParams(1, top_p=0.9)) > 0).sum()
    assert kept > NUCLEUS_CANDIDATES
    assert abs(int(kept) - int(expected)) <= 1  # float32 sums place the border


def test_tokens_that_tie_at_the_border_all_stay() -> None:
    tied = torch.tensor([[2.0, 1.0, 1.0, 0.0]])
    kept = filter_rows(tied, [SamplingParams(max_tokens=1, top_k=2)]).isfinite()
    assert kept.tolist() == [[True, True, True, False]]


@pytest.mark.parametrize("fields", CASES, ids=str)
def test_every_drawn_token_is_the_one_the_definition_draws(fields: dict[str, float]) -> None:
    params = [SamplingParams(max_tokens=1, seed=seed, **fields) for seed in range(200)]  # type: ignore[arg-type]
    requests = [SampleRequest(p, (), (), ()) for p in params]
    results = sample_rows(row(5).repeat(200, 1), requests)
    with np.errstate(divide="ignore"):  # tokens that a filter dropped
        logprobs = np.log(reference(row(5)[0].double().numpy(), params[0]))
    for p, result in zip(params, results, strict=True):
        sums = logprobs + gumbel(p.seed, 0, VOCAB)
        assert result.sample is not None
        # within float32's noise of the best sum
        assert sums[result.sample.token_id] >= sums.max() - 1e-5
