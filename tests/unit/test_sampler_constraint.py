"""A row under a constraint: only what may follow is chosen, drawn and told, and what cannot be."""

import dataclasses

import numpy as np
import pytest
from baton.engine.agreement import RowSample, agreed, wanted_draws
from baton.engine.batch import BatchSlice, SampleRequest
from baton.engine.failure import NOT_FINITE, NOTHING_FITS
from baton.engine.models.steps import Rows
from baton.engine.params import SamplingParams
from baton.engine.sampler import sample_rows
from support.fixed_constraint import FixedConstraint

VOCAB = 50
EOS = 4
TABLE = {(): (7, 30), (7,): (9,), (7, 9): (EOS,), (30,): ()}


def request(output: tuple[int, ...] = (), vocab: int = VOCAB, **fields: object) -> SampleRequest:
    params = SamplingParams(**{"max_tokens": 100, "temperature": 0.0, **fields})  # type: ignore[arg-type]
    return SampleRequest(params, (1, 2), output, (EOS,), constraint=FixedConstraint(TABLE, vocab))


def row(seed: int = 0) -> Rows:
    return np.random.default_rng(seed).normal(size=(1, VOCAB)).astype(np.float32) * 3


def sampled(logits: Rows, asked: SampleRequest) -> RowSample:
    return sample_rows(logits.copy(), [asked])[0]


def token(logits: Rows, asked: SampleRequest) -> int:
    result = sampled(logits, asked)
    assert result.sample is not None, result.error
    return result.sample.token_id


@pytest.mark.parametrize("seed", range(5))
def test_the_likeliest_of_what_may_follow_is_chosen(seed: int) -> None:
    logits = row(seed)
    assert token(logits, request()) == max((7, 30), key=lambda i: logits[0, i])
    assert token(logits, request((7,))) == 9


@pytest.mark.parametrize("seed", range(20))
def test_draws_fall_on_what_may_follow(seed: int) -> None:
    assert token(row(seed), request(temperature=1.5, seed=seed)) in (7, 30)


def test_a_draw_is_what_it_would_be_were_nothing_else_there() -> None:
    """Noise is by token: leaving tokens out moves no other one."""
    logits = row(3)
    alone = np.full_like(logits, -1e9)
    alone[0, [7, 30]] = logits[0, [7, 30]]
    for position in range(30):
        asked = request(temperature=1.0, seed=position)
        free = dataclasses.replace(asked, constraint=None)
        assert token(logits, asked) == token(alone, free)


def test_penalties_and_bias_choose_among_what_may_follow() -> None:
    logits = row()
    likeliest = token(logits, request())
    other = 37 - likeliest
    assert token(logits, request(logit_bias=((other, 100.0),))) == other
    assert token(logits, request(logit_bias=((11, 100.0),))) == likeliest


def test_logprobs_are_of_the_raw_distribution() -> None:
    logits = row()
    result = sampled(logits, request(logprobs=1)).sample
    assert result is not None
    exact = logits[0] - np.log(np.exp(logits[0]).sum())
    assert result.logprob == pytest.approx(float(exact[result.token_id]), abs=1e-5)
    assert result.top[0].token_id == int(logits[0].argmax())


def test_rows_that_the_constraint_does_not_know_are_never_chosen() -> None:
    """An embedding may have more rows than the vocabulary."""
    logits = row()
    logits[0, 40:] = 100.0
    assert token(logits, request(vocab=32)) in (7, 30)


@pytest.mark.parametrize("output", [(30,), (8,)], ids=["nothing-may-follow", "not-its-output"])
def test_a_row_that_cannot_go_on_fails_alone(output: tuple[int, ...]) -> None:
    asked = [request(output), request()]
    failed, fine = sample_rows(np.concatenate([row(1), row(2)]), asked)
    assert failed == RowSample(error=NOTHING_FITS)
    assert fine.sample is not None


def test_a_row_that_is_not_finite_says_so_first() -> None:
    assert sampled(np.full((1, VOCAB), np.nan, np.float32), request()).error == NOT_FINITE


@pytest.mark.parametrize(
    ("guesses", "found"),
    [((7, 9), [7, 9, EOS]), ((7, 8), [7, 9]), ((8, 9), [7]), ((7,), [7, 9])],
)
def test_guesses_count_as_far_as_the_grammar_has_them(
    guesses: tuple[int, ...], found: list[int]
) -> None:
    piece = BatchSlice("r", (2, *guesses), 1, [0], request(), guesses=len(guesses))
    logits = np.concatenate([row() for _ in range(piece.draws)])
    logits[:, 7] = 50.0
    error, samples = agreed(piece, sample_rows(logits, wanted_draws(piece)))
    assert error is None
    assert [sample.token_id for sample in samples] == found
