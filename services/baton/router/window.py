"""Sums over the last minute, kept per second. Pure; time comes in as a number, and never goes back.

What happened up to a second more than WINDOW_S ago may still be in a sum.
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

    def sums(self, now_s: float) -> dict[Flow, int]:
        self._forget(now_s)
        return {flow: sum(bucket[flow] for _, bucket in self._buckets) for flow in Flow}

    def length_s(self, now_s: float) -> float:
        """WINDOW_S, or less while it is younger."""
        return min(WINDOW_S, max(0.0, now_s - self._started_s))

    @property
    def bucket_count(self) -> int:
        return len(self._buckets)

    def _forget(self, now_s: float) -> None:
        oldest = int((now_s - WINDOW_S) // BUCKET_S)
        while self._buckets and self._buckets[0][0] < oldest:
            self._buckets.popleft()
