"""Guesses come from what was said before, and only as many as pay."""

import pytest
from baton.engine.messages import Submit
from baton.engine.params import SamplingParams
from baton.engine.request import new_request
from baton.engine.speculation import (
    GAIN_MIN,
    PROBE_INTERVAL_STEPS,
    Acceptance,
    PromptLookup,
    PromptLookupGuesser,
    StepCosts,
    expected_tokens,
    guess_count,
)
from hypothesis import given
from hypothesis import strategies as st

MEMORY_BOUND = StepCosts(base_s=0.010, row_s=0.0005)  # a row is cheap beside the weights
COMPUTE_BOUND = StepCosts(base_s=0.001, row_s=0.002)


def lookup(*tokens: int) -> PromptLookup:
    built = PromptLookup()
    built.extend(tokens)
    return built


def test_what_followed_the_same_words_is_guessed() -> None:
    assert lookup(1, 2, 3, 4, 5, 9, 1, 2, 3).guess(2) == (4, 5)


def test_the_longest_match_wins_over_a_later_shorter_one() -> None:
    assert lookup(1, 2, 3, 7, 9, 2, 3, 8, 1, 2, 3).guess(1) == (7,)


def test_among_equal_matches_the_latest_wins() -> None:
    assert lookup(1, 2, 7, 0, 1, 2, 8, 0, 1, 2).guess(1) == (8,)


def test_without_a_repeated_pair_nothing_is_guessed() -> None:
    assert lookup(1, 2, 3, 1, 4).guess(3) == ()
    assert lookup().guess(3) == ()


def test_a_loop_is_guessed_as_far_as_it_is_known() -> None:
    assert lookup(5, 6, 5, 6, 5, 6).guess(4) == (5, 6)


def test_lookup_wishes_for_guesses_only_where_there_are_any() -> None:
    guesser = PromptLookupGuesser(lambda: MEMORY_BOUND, guesses_max=4)

    def wish(*prompt: int, tried: bool) -> int:
        request = new_request(Submit("r", prompt, SamplingParams(9)), b"")
        if tried:
            guesser.learn(request, guessed=1, accepted=1)
        return guesser.wish(request, decoding=1)

    assert wish(1, 2, 3, 1, 2, tried=True) > 0
    assert wish(1, 2, 3, 2, 1, tried=True) == 0
    # the first time only where text repeats at length
    assert wish(1, 2, 3, 1, 2, tried=False) == 0
    assert wish(1, 2, 3, 4, 5, 1, 2, 3, 4, tried=False) > 0


@pytest.mark.parametrize(
    ("prompt", "probed"), [((1, 2, 3, 4, 5, 1, 2, 3, 4), True), ((1, 2, 3, 5, 1, 2, 3), False)]
)
def test_a_request_that_has_stopped_tries_again_where_text_repeats_at_length(
    prompt: tuple[int, ...], probed: bool
) -> None:
    guesser = PromptLookupGuesser(lambda: MEMORY_BOUND, guesses_max=4)
    request = new_request(Submit("r", prompt, SamplingParams(9)), b"")
    for _ in range(40):
        guesser.learn(request, guessed=1, accepted=0)
    wishes = [guesser.wish(request, decoding=1) for _ in range(2 * PROBE_INTERVAL_STEPS)]
    assert wishes[: PROBE_INTERVAL_STEPS - 1] == [0] * (PROBE_INTERVAL_STEPS - 1)
    assert set(wishes[PROBE_INTERVAL_STEPS - 1 :]) == {int(probed)}
    if probed:
        assert guesser.guess([(request, 1)]) == [(5,)]


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 5), st.integers(0, 40))
def test_growing_piece_by_piece_is_the_same_as_all_at_once(
    tokens: list[int], count: int, cut: int
) -> None:
    grown = lookup(*tokens[:cut])
    grown.extend(tokens[cut:])
    guess = lookup(*tokens).guess(count)
    assert grown.guess(count) == guess
    text = "".join(map(str, tokens))
    if guess:
        assert "".join(map(str, tokens[-2:])) + "".join(map(str, guess)) in text


def test_the_rate_follows_what_happens() -> None:
    good, bad = Acceptance(), Acceptance()
    for _ in range(40):
        good.note(guessed=4, accepted=4)
        bad.note(guessed=4, accepted=0)
    assert good.rate > 0.95
    assert bad.rate < 0.05


def test_a_request_that_stopped_guessing_probes_now_and_then() -> None:
    acceptance = Acceptance()
    probes = [acceptance.due_for_probe() for _ in range(PROBE_INTERVAL_STEPS)]
    assert probes == [False] * (PROBE_INTERVAL_STEPS - 1) + [True]
    acceptance.note(guessed=1, accepted=0)
    assert not acceptance.due_for_probe()


@pytest.mark.parametrize(
    ("rate", "requests", "costs", "expected"),
    [
        (0.9, 1, MEMORY_BOUND, 6),
        (0.02, 1, MEMORY_BOUND, 0),
        (0.9, 64, COMPUTE_BOUND, 0),
        (0.9, 1, StepCosts(0.0, 0.0), 0),
    ],
    ids=["cheap-rows", "bad-guesses", "full-batch", "unknown-machine"],
)
def test_guesses_are_made_only_where_they_pay(
    rate: float, requests: int, costs: StepCosts, expected: int
) -> None:
    assert guess_count(rate, requests=requests, costs=costs, guesses_max=6) == expected


@given(
    rate=st.floats(0.0, 1.0),
    requests=st.integers(1, 64),
    base_s=st.floats(1e-4, 1.0),
    row_s=st.floats(1e-6, 1.0),
    share=st.floats(0.0, 1.0),
)
def test_no_count_yields_more_than_the_chosen_one(
    rate: float, requests: int, base_s: float, row_s: float, share: float
) -> None:
    costs = StepCosts(base_s, row_s)
    plain_s = costs.step_s(requests)

    def yielded(count: int) -> float:
        step_s = costs.step_s(requests * (1 + count)) + count * share * plain_s
        return expected_tokens(rate, count) / step_s

    chosen = guess_count(rate, requests=requests, costs=costs, guesses_max=5, guess_share=share)
    best = max(yielded(count) for count in range(1, 6))
    enough = GAIN_MIN * yielded(0)
    if chosen:
        assert yielded(chosen) == best > enough
    else:
        assert best <= enough * (1 + 1e-9)


def test_the_chosen_count_is_never_worse_than_none() -> None:
    for percent in range(0, 100, 7):
        for requests in (1, 4, 16):
            rate = percent / 100
            count = guess_count(rate, requests=requests, costs=MEMORY_BOUND, guesses_max=6)
            with_guesses = expected_tokens(rate, count) / MEMORY_BOUND.step_s(
                requests * (1 + count)
            )
            assert with_guesses >= 1 / MEMORY_BOUND.step_s(requests)
