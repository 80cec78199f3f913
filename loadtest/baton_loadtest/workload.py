"""What is asked, and when: prompts as token ids and arrival times, a function of the seed alone.

Pure. Knows no tokenizer (ids go straight into the prompt) and no clock (times are seconds from the
start).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from baton_loadtest.draws import uniform

TOKEN_ID_MIN = 1_000
"""Below it lie special tokens and single bytes in every vocabulary we serve."""

TOKEN_ID_END = 30_000
"""Exclusive; the smallest vocabulary we serve (Llama 2, Mistral) has 32,000."""

ARRIVAL_STREAM = 1 << 32
"""Seed offset of arrival draws, so that they are independent of every prompt's draws."""


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    start_s: float  # from the start of the run
    prompt: tuple[int, ...]  # token ids
    output_tokens: int  # exactly so many: end-of-sequence is ignored


def plan_requests(
    count: int,
    *,
    prompt_tokens: int,
    output_tokens: int,
    seed: int,
    rate_per_s: float | None = None,
) -> tuple[PlannedRequest, ...]:
    """`count` requests with unrelated prompts.

    `rate_per_s`: Poisson arrivals; None: all at once.
    """
    starts_s = arrivals_s(count, rate_per_s, seed)
    return tuple(
        PlannedRequest(start_s, prompt_ids(seed, index, prompt_tokens), output_tokens)
        for index, start_s in enumerate(starts_s)
    )


def prompt_ids(seed: int, index: int, length: int) -> tuple[int, ...]:
    """Prompt `index` of a run: differs from all others from the first token, so no prefix is
    shared.
    """
    first = index * length
    span = TOKEN_ID_END - TOKEN_ID_MIN
    return tuple(
        TOKEN_ID_MIN + int(uniform(seed, first + offset) * span) for offset in range(length)
    )


def arrivals_s(count: int, rate_per_s: float | None, seed: int) -> Sequence[float]:
    """Ascending start times; exponential gaps for a rate, zeros without one."""
    if rate_per_s is None:
        return [0.0] * count
    times_s: list[float] = []
    now_s = 0.0
    for index in range(count):
        times_s.append(now_s)
        now_s -= math.log1p(-uniform(seed + ARRIVAL_STREAM, index)) / rate_per_s
    return times_s
