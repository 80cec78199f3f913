"""Sums over the last minute or less, kept per second. Pure; time comes in as a number, and never
goes back.

What happened up to a second before the time a sum covers may still be in it.
"""

from collections import deque
from enum import IntEnum

from baton.common.signals import WINDOW_S

BUCKET_S = 1.0


class Flow(IntEnum):
    """What is summed."""

    REQUESTS_ARRIVED = 0
    PROMPT_TOKENS_ARRIVED = 1
    PROMPT_TOKENS_CACHED = 2
    REQUESTS_ENDED = 3
    OUTPUT_TOKENS = 4
    TTFT_REQUESTS = 5
    TTFT_ATTAINED = 6
    ITL_REQUESTS = 7
    ITL_ATTAINED = 8


class Window:
    """Bounded: one bucket per second of the window."""

    def __init__(self, *, started_s: float) -> None:
        self._started_s = started_s
        self._buckets: deque[tuple[int, list[int]]] = deque()

    def add(self, now_s: float, flow: Flow, amount: int = 1) -> None:
        number = int(now_s // BUCKET_S)
        if not self._buckets or self._buckets[-1][0] < number:
            self._forget(now_s)
            self._buckets.append((number, [0] * len(Flow)))
        self._buckets[-1][1][flow] += amount

    def sums(self, now_s: float, span_s: float = WINDOW_S) -> dict[Flow, int]:
        """Over the last `span_s`, WINDOW_S at most."""
        self._forget(now_s)
        oldest = _oldest(now_s, span_s)
        kept = [bucket for number, bucket in self._buckets if number >= oldest]
        return {flow: sum(bucket[flow] for bucket in kept) for flow in Flow}

    def length_s(self, now_s: float) -> float:
        """WINDOW_S, or less while it is younger."""
        return min(WINDOW_S, max(0.0, now_s - self._started_s))

    @property
    def bucket_count(self) -> int:
        return len(self._buckets)

    def _forget(self, now_s: float) -> None:
        oldest = _oldest(now_s, WINDOW_S)
        while self._buckets and self._buckets[0][0] < oldest:
            self._buckets.popleft()


def _oldest(now_s: float, span_s: float) -> int:
    """The number of the first bucket that reaches into the last `span_s`."""
    return int((now_s - span_s) // BUCKET_S)
