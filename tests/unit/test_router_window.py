"""Sums over the last minute."""

from baton.common.signals import LATELY_S, WINDOW_S
from baton.router.window import Flow, Window


def test_what_happened_in_the_window_is_summed_by_kind() -> None:
    window = Window(started_s=100.0)
    window.add(100.2, Flow.REQUESTS_ARRIVED)
    window.add(100.9, Flow.PROMPT_TOKENS_ARRIVED, 7)
    window.add(130.0, Flow.REQUESTS_ARRIVED, 2)
    sums = window.sums(140.0)
    assert sums[Flow.REQUESTS_ARRIVED] == 3
    assert sums[Flow.PROMPT_TOKENS_ARRIVED] == 7
    assert sums[Flow.OUTPUT_TOKENS] == 0


def test_what_happened_before_it_is_forgotten_with_at_most_a_second_of_delay() -> None:
    window = Window(started_s=0.0)
    window.add(10.5, Flow.REQUESTS_ENDED)
    assert window.sums(10.5 + WINDOW_S)[Flow.REQUESTS_ENDED] == 1
    assert window.sums(11.5 + WINDOW_S)[Flow.REQUESTS_ENDED] == 0


def test_of_the_last_seconds_less_is_summed_than_of_the_minute() -> None:
    window = Window(started_s=0.0)
    window.add(100.5, Flow.REQUESTS_ARRIVED, 3)
    window.add(110.0, Flow.REQUESTS_ARRIVED)
    now_s = 102.0 + LATELY_S
    assert window.sums(now_s, LATELY_S)[Flow.REQUESTS_ARRIVED] == 1
    assert window.sums(now_s)[Flow.REQUESTS_ARRIVED] == 4


def test_it_is_no_longer_than_its_owner_is_old() -> None:
    window = Window(started_s=50.0)
    assert window.length_s(50.0) == 0.0
    assert window.length_s(57.5) == 7.5
    assert window.length_s(1_000.0) == WINDOW_S


def test_it_is_bounded_however_much_happens() -> None:
    window = Window(started_s=0.0)
    for tenth in range(10_000):
        window.add(tenth / 10, Flow.OUTPUT_TOKENS)
    assert window.sums(999.95)[Flow.OUTPUT_TOKENS] <= (WINDOW_S + 1) * 10
    assert window.bucket_count <= WINDOW_S + 1
