"""Steps of an engine under a mixed load, timed: what the cost model is judged on.

Requests of many lengths arrive while others decode, so prefill, decode and mixed steps of many
sizes come up, and so in both halves. Knows an engine and a clock; draws nothing but from its seed.
"""

import random
from collections.abc import Iterator, Sequence

from baton.common.clock import Clock
from baton.engine.engine import Engine
from baton.engine.messages import Submit
from baton.engine.params import SamplingParams

from baton_loadtest.costmodel_stats import MeasuredStep

PROMPT_TOKENS = (8, 32, 128, 400)
OUTPUT_TOKENS = (8, 24, 64)
BURSTS = (1, 1, 2, 4, 12)
"""Requests that arrive together: between bursts the batch drains, so all of its sizes come up."""

ARRIVAL_STEPS = 12
"""Mean steps between bursts; a request takes 8 to 64."""

LIVE_MAX = 32

REST_STEPS = 150
"""So often the arrivals pause until the batch is empty: single requests are steps of their own."""


def mixed_steps(
    engine: Engine, count: int, *, vocab_size: int, clock: Clock, seed: int
) -> tuple[MeasuredStep, ...]:
    """The first `count` steps of the load, after as many as it takes to be warm."""
    warm_up = 16
    found = _steps(engine, warm_up + count, random.Random(seed), vocab_size, clock)
    return tuple(found)[warm_up:]


def _steps(
    engine: Engine, count: int, rng: random.Random, vocab_size: int, clock: Clock
) -> Iterator[MeasuredStep]:
    live, made, resting = 0, 0, False
    for number in range(count):
        resting = live > 0 and (resting or number % REST_STEPS == REST_STEPS - 1)
        arrives = not live or (not resting and rng.random() < 1 / ARRIVAL_STEPS)
        burst = rng.choice(BURSTS) if arrives else 0
        for _ in range(min(burst, LIVE_MAX - live)):
            engine.apply(_request(f"r{made}", rng, vocab_size))
            made, live = made + 1, live + 1
        began_s = clock.monotonic_s()
        report = engine.step()
        ended_s = clock.monotonic_s()
        assert report.shape is not None, "an engine with live requests computes"
        live = report.load.running + report.load.waiting
        yield MeasuredStep(report.shape, ended_s - began_s)


def _request(name: str, rng: random.Random, vocab_size: int) -> Submit:
    """A prompt like no other, so that no prefix is cached."""
    prompt = tuple(rng.randrange(vocab_size) for _ in range(_spread(rng, PROMPT_TOKENS)))
    params = SamplingParams(max_tokens=_spread(rng, OUTPUT_TOKENS), temperature=0.0)
    return Submit(name, prompt, params)


def _spread(rng: random.Random, sizes: Sequence[int]) -> int:
    """About one of the sizes."""
    size = rng.choice(sizes)
    return rng.randint(max(1, size // 2), size)
