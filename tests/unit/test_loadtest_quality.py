"""The numbers of a quality run, and which pieces of a text it reads."""

import math

import pytest
import torch
from baton_loadtest.quality import score_rows
from baton_loadtest.quality_stats import Scored, common_prefix, judge, total
from baton_loadtest.quality_text import help_topics, spread_windows


def test_perplexity_and_its_ratio_come_from_mean_likelihoods() -> None:
    scored = Scored(
        positions=4,
        reference_nats=4 * math.log(8),
        scheme_nats=4 * math.log(10),
        divergence_nats=0.2,
        agreed=3,
    )
    found = judge("x", scored, [[1, 2, 3], [4, 5, 6]], [[1, 2, 9], [4, 5, 6]])
    assert found.perplexity == pytest.approx(10)
    assert found.perplexity_ratio == pytest.approx(1.25)
    assert found.divergence_mean_nats == pytest.approx(0.05)
    assert found.agreement == 0.75
    assert (found.common_prefix_mean, found.continuation_tokens) == (2.5, 3)


def test_windows_add_up() -> None:
    parts = [Scored(1, 2.0, 3.0, 0.5, 1), Scored(3, 1.0, 1.5, 0.25, 0)]
    assert total(parts) == Scored(4, 3.0, 4.5, 0.75, 1)


@pytest.mark.parametrize(
    ("left", "right", "common"), [([], [], 0), ([1, 2], [1, 2], 2), ([1, 2], [3, 2], 0)]
)
def test_a_common_prefix_ends_at_the_first_difference(
    left: list[int], right: list[int], common: int
) -> None:
    assert common_prefix(left, right) == common


def test_rows_are_scored_against_the_tokens_that_follow() -> None:
    expected = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.7, 0.1]]).log()
    found = torch.tensor([[0.25, 0.5, 0.25], [0.2, 0.7, 0.1]]).log()
    scored = score_rows(expected, found, torch.tensor([0, 1]))
    assert scored.positions == 2
    assert scored.reference_nats == pytest.approx(-math.log(0.5) - math.log(0.7))
    assert scored.scheme_nats == pytest.approx(-math.log(0.25) - math.log(0.7))
    assert scored.divergence_nats == pytest.approx(0.25 * math.log(2))
    assert scored.agreed == 1


def test_windows_are_whole_and_spread_over_the_text() -> None:
    windows = spread_windows(range(1_000), tokens=310, window_tokens=100)
    assert [window[0] for window in windows] == [0, 450, 900]
    assert all(len(window) == 100 for window in windows)


def test_there_is_a_window_however_few_tokens_are_asked_for() -> None:
    assert spread_windows(range(50), tokens=1, window_tokens=50) == (tuple(range(50)),)


def test_the_text_is_long_english() -> None:
    text = help_topics()
    assert len(text) > 200_000
    assert text.count(" the ") > 1_000
