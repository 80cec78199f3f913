"""What the sampler chooses and reports, parameter by parameter."""

import math

import numpy as np
import pytest
import torch
from baton.engine.agreement import RowSample
from baton.engine.batch import SampleRequest
from baton.engine.noise import Noise
from baton.engine.params import SamplingParams, TokenSample
from baton.engine.sampler import draw, sample_rows

VOCAB = 50
EOS = 4


def request(
    *, prompt: tuple[int, ...] = (), output: tuple[int, ...] = (), **fields: object
) -> SampleRequest:
    params = SamplingParams(max_tokens=100, **fields)  # type: ignore[arg-type]
    return SampleRequest(params, prompt, output, (EOS,))


def greedy(**fields: object) -> SampleRequest:
    return request(temperature=0.0, **fields)  # type: ignore[arg-type]


def rows(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, VOCAB, generator=torch.Generator().manual_seed(seed)) * 2


def ranked(*tokens: int) -> torch.Tensor:
    """One row in which these tokens are the likeliest, in this order: 10, 9, 8..."""
    row = torch.zeros(1, VOCAB)
    for place, token in enumerate(tokens):
        row[0, token] = 10.0 - place
    return row


def chosen(logits: torch.Tensor, *requests: SampleRequest) -> list[int]:
    return [sample_of(result).token_id for result in sampled(logits, *requests)]


def sampled(logits: torch.Tensor, *requests: SampleRequest) -> list[RowSample]:
    return sample_rows(logits.clone().numpy(), requests)


def sample_of(result: RowSample) -> TokenSample:
    assert result.error is None
    assert result.sample is not None
    return result.sample


def test_greedy_takes_the_likeliest_token_of_each_row() -> None:
    logits = rows(4)
    assert chosen(logits, *[greedy()] * 4) == logits.argmax(-1).tolist()


def test_greedy_ties_go_to_the_lowest_id() -> None:
    logits = torch.zeros(1, VOCAB)
    logits[0, [31, 17, 40]] = 5.0
    assert chosen(logits, greedy()) == [17]


def test_a_temperature_too_small_to_divide_by_is_greedy() -> None:
    assert chosen(ranked(9), request(temperature=1e-9)) == [9]


def test_greedy_and_drawn_rows_share_a_batch() -> None:
    logits = rows(3)
    mixed = [greedy(), request(seed=5), greedy()]
    alone = [chosen(logits[row : row + 1], mixed[row])[0] for row in range(3)]
    assert chosen(logits, *mixed) == alone


def test_a_draw_is_the_largest_sum_of_logit_and_noise() -> None:
    logits = rows(1)
    for position in range(40):
        sums = logits[0].double().numpy() / 0.7 + Noise(9, position, VOCAB).at(np.arange(VOCAB))
        wanted = request(seed=9, temperature=0.7, output=(0,) * position)
        assert chosen(logits, wanted) == [int(sums.argmax())]


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    draws = 4000
    tokens = chosen(logits.expand(draws, -1), *[request(seed=seed) for seed in range(draws)])
    expected = torch.tensor([0.1, 0.2, 0.3, 0.4]) * draws
    counts = torch.bincount(torch.tensor(tokens), minlength=4)
    # chi-square with 3 degrees of freedom: 16.3 has a chance of one in a thousand
    assert float(((counts - expected) ** 2 / expected).sum()) < 16.3


def test_noise_in_the_last_bits_of_the_logits_changes_almost_no_draw() -> None:
    generator = torch.Generator().manual_seed(1)
    flat = torch.randn(500, 5000, generator=generator)
    shaken = flat + torch.randn(500, 5000, generator=generator) * 2e-5
    requests = [request(seed=seed) for seed in range(500)]
    changed = sum(
        a != b for a, b in zip(chosen(flat, *requests), chosen(shaken, *requests), strict=True)
    )
    assert changed <= 1


def test_a_draw_depends_on_seed_and_position_alone() -> None:
    logits = rows(1).expand(6, -1)
    same = request(seed=3, prompt=(1, 2), output=(3,))
    shifted = request(seed=3, prompt=(1,), output=(2, 3))  # the same position
    other_seed, other_place = request(seed=4, prompt=(1, 2, 3)), request(seed=3, prompt=(1, 2))
    tokens = chosen(logits, same, shifted, same, other_seed, other_place, greedy())
    assert tokens[0] == tokens[1] == tokens[2]
    flat = chosen(torch.zeros(60, VOCAB), *[request(seed=seed) for seed in range(60)])
    assert len(set(flat)) > 20


@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0, 20.0])
@pytest.mark.parametrize("kept", [1.0, 0.01])
def test_the_tokens_that_are_not_looked_at_could_not_have_won(spread: float, kept: float) -> None:
    generator = np.random.default_rng(1)
    vocab = 20_000
    for seed in range(30):
        row = (generator.standard_normal(vocab) * spread).astype(np.float32)
        row[generator.random(vocab) > kept] = -np.inf
        sums = row + Noise(seed, 5, vocab).at(np.arange(vocab))
        assert draw(row, seed, 5) == sums.argmax()


def test_the_noise_of_a_token_has_the_same_bits_among_few_and_many() -> None:
    noise, few = Noise(2**63, 11, 999), np.array([0, 17, 500, 998])
    every = noise.at(np.arange(999))
    assert np.array_equal(noise.at(few), every[few])
    for border in (-3.0, 0.0, 4.0):
        assert set(np.flatnonzero(every > border)) <= set(noise.above(border))
        assert (every[noise.above(border)] > border - 1e-6).all()


def test_low_temperature_sharpens_and_high_temperature_flattens() -> None:
    logits = ranked(7, 8).expand(200, -1) / 3

    def share(temperature: float) -> float:
        requests = [request(temperature=temperature, seed=seed) for seed in range(200)]
        return chosen(logits, *requests).count(7) / 200

    assert share(0.1) > 0.9 > share(1.0) > share(5.0)


def test_the_largest_seed_and_zero_probability_tokens_are_fine() -> None:
    logits = torch.full((50, VOCAB), -300.0)
    logits[:, 20] = 300.0
    requests = [request(seed=2**64 - 1 - row) for row in range(50)]
    assert set(chosen(logits, *requests)) == {20}


def test_logit_bias_lifts_and_bans() -> None:
    assert chosen(ranked(7, 8), greedy(logit_bias=((8, 5.0),))) == [8]
    assert chosen(ranked(7, 8), greedy(logit_bias=((7, -100.0),))) == [8]


def test_a_bias_on_a_token_the_model_lacks_changes_nothing() -> None:
    assert chosen(ranked(7), greedy(logit_bias=((VOCAB + 3, 50.0),))) == [7]


def test_no_stop_token_comes_before_min_tokens() -> None:
    ends = {"min_tokens": 2, "stop_token_ids": (7, VOCAB + 1)}
    assert chosen(ranked(EOS, 7, 9), greedy(**ends)) == [9]
    assert chosen(ranked(EOS, 7, 9), greedy(**ends, output=(1,))) == [9]
    assert chosen(ranked(EOS, 7, 9), greedy(**ends, output=(1, 1))) == [EOS]


def test_ignored_ends_of_sequence_are_tokens_like_others_before_min_tokens() -> None:
    assert chosen(ranked(EOS), greedy(min_tokens=2, ignore_eos=True)) == [EOS]


def test_presence_counts_once_frequency_counts_each_time_and_only_output() -> None:
    assert chosen(ranked(7, 8), greedy(presence_penalty=1.5, output=(7,))) == [8]
    assert chosen(ranked(7, 8), greedy(presence_penalty=0.9, output=(7, 7, 7))) == [7]
    assert chosen(ranked(7, 8), greedy(frequency_penalty=0.4, output=(7, 7))) == [7]
    assert chosen(ranked(7, 8), greedy(frequency_penalty=0.4, output=(7, 7, 7))) == [8]
    assert chosen(ranked(7, 8), greedy(presence_penalty=2.0, prompt=(7,))) == [7]
    assert chosen(ranked(7, 8), greedy(presence_penalty=-1.5, output=(8,))) == [8]


def test_repetition_divides_gains_and_multiplies_losses_of_prompt_and_output() -> None:
    assert chosen(ranked(7, 8), greedy(repetition_penalty=1.2, prompt=(7,))) == [8]
    assert chosen(ranked(7, 8), greedy(repetition_penalty=1.2, output=(7,))) == [8]
    below_zero = torch.full((1, VOCAB), -5.0)
    below_zero[0, 7], below_zero[0, 8] = -1.0, -1.1
    assert chosen(below_zero, greedy(repetition_penalty=1.2, prompt=(7,))) == [8]


def test_logprobs_are_of_the_raw_distribution_likeliest_first() -> None:
    logits = rows(1)
    expected = logits[0].log_softmax(-1)
    best = expected.topk(3)
    asked = greedy(logprobs=3, logit_bias=((11, 100.0),), min_tokens=3, presence_penalty=1.0)
    sample = sample_of(sampled(logits, asked)[0])
    assert sample.token_id == 11
    assert sample.logprob == pytest.approx(float(expected[11]), abs=1e-6)
    assert [entry.token_id for entry in sample.top] == best.indices.tolist()
    assert [entry.logprob for entry in sample.top] == pytest.approx(best.values.tolist())


def test_of_equal_logprobs_the_lowest_ids_are_reported_first() -> None:
    logits = torch.zeros(1, VOCAB)
    logits[0, [31, 17, 40]] = 5.0
    sample = sample_of(sampled(logits, greedy(logprobs=5))[0])
    assert [entry.token_id for entry in sample.top] == [17, 31, 40, 0, 1]


def test_each_row_reports_as_many_logprobs_as_it_asked_for() -> None:
    wanted = [None, 0, 5, VOCAB + 10]
    requests = [request(logprobs=count, seed=1) for count in wanted]
    samples = [sample_of(result) for result in sampled(rows(4), *requests)]
    assert [len(sample.top) for sample in samples] == [0, 0, 5, VOCAB]
    assert [sample.logprob is None for sample in samples] == [True, False, False, False]


@pytest.mark.parametrize("fault", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("fields", [{"temperature": 0.0}, {"top_p": 0.9, "logprobs": 2}])
def test_a_row_that_is_not_finite_fails_alone(fault: float, fields: dict[str, object]) -> None:
    logits = rows(3)
    expected = chosen(logits, *[request(**fields)] * 3)  # type: ignore[arg-type]
    logits[1, 30] = fault
    first, broken, last = sampled(logits, *[request(**fields)] * 3)  # type: ignore[arg-type]
    assert broken.sample is None
    assert broken.error is not None
    assert "finite" in broken.error
    assert [sample_of(first).token_id, sample_of(last).token_id] == [expected[0], expected[2]]


@pytest.mark.parametrize("fields", [{"temperature": 0.0}, {"temperature": 1.0, "top_p": 0.9}])
def test_a_row_whose_every_token_is_forbidden_fails_alone(fields: dict[str, object]) -> None:
    everything = tuple(range(VOCAB))
    forbidden = request(min_tokens=1, stop_token_ids=everything, **fields)  # type: ignore[arg-type]
    bad, good = sampled(rows(2), forbidden, greedy())
    assert bad.error is not None
    assert good.sample is not None
