"""From time stamps to the numbers people compare: TTFT, ITL, tokens per second. Pure.

Knows observations, not how they were made. All times are seconds on one monotonic clock.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observation:
    """One finished request."""

    sent_s: float
    chunk_times_s: tuple[float, ...]  # arrival of each chunk that carried output, ascending
    prompt_tokens: int
    output_tokens: int  # as the server's usage says
    cached_tokens: int

    @property
    def ttft_s(self) -> float:
        return self.chunk_times_s[0] - self.sent_s

    @property
    def gaps_s(self) -> tuple[float, ...]:
        """Inter-token latencies; one less than chunks."""
        times_s = self.chunk_times_s
        return tuple(later - sooner for sooner, later in itertools.pairwise(times_s))


@dataclass(frozen=True, slots=True)
class Summary:
    """One run of several concurrent requests."""

    requests: int
    output_tokens: int
    duration_s: float  # first request sent to last chunk received
    output_tokens_per_s: float  # over the whole run, prefill included
    ttft_mean_s: float
    itl_p50_s: float
    itl_p99_s: float


def summarize(observations: Sequence[Observation]) -> Summary:
    """`observations` of one run, at least one, each with at least two chunks."""
    started_s = min(one.sent_s for one in observations)
    ended_s = max(one.chunk_times_s[-1] for one in observations)
    gaps_s = [gap for one in observations for gap in one.gaps_s]
    tokens = sum(one.output_tokens for one in observations)
    return Summary(
        requests=len(observations),
        output_tokens=tokens,
        duration_s=ended_s - started_s,
        output_tokens_per_s=tokens / (ended_s - started_s),
        ttft_mean_s=math.fsum(one.ttft_s for one in observations) / len(observations),
        itl_p50_s=percentile(gaps_s, 50),
        itl_p99_s=percentile(gaps_s, 99),
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between the closest ranks, like numpy's default. `values` not empty."""
    ordered = sorted(values)
    rank = (len(ordered) - 1) * percent / 100
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)
