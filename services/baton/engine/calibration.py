"""A few steps nobody asked for, run before the first request: first values for the cost model.

They write into blocks no request holds yet, and nothing is told of them. Knows a runner and a
clock; what is learned is the listener's.
"""

from collections.abc import Callable, Iterator

from baton.common.clock import Clock
from baton.engine.batch import BatchSlice, Runner, SampleRequest, StepBatch
from baton.engine.params import SamplingParams
from baton.engine.stepshape import StepShape, shape_of

CALIBRATION_LIMIT_S = 0.4
"""No step begins after this, but the first three: a small model has run all by then. Short of a
decode and a prompt the law would call one of them free."""

ALWAYS_STEPS = 3  # the warm-up among them

STEPS = (
    # sequences, tokens of each, tokens already in the cache of each
    (1, 1, 15),
    (1, 64, 0),
    (8, 1, 127),
    (1, 64, 448),
    (1, 1, 511),
    (4, 1, 255),
)
"""Each term of the law varies by itself; the most telling come first."""

ROWS_MAX = max(sequences * tokens for sequences, tokens, _ in STEPS)
SEQUENCES_MAX = max(sequences for sequences, _, _ in STEPS)


def calibrate(
    runner: Runner,
    learn: Callable[[StepShape, float], None],
    *,
    block_count: int,
    block_size: int,
    clock: Clock,
) -> None:
    """Run and time the steps that fit the cache. Raises EngineFailure."""
    began_s = clock.monotonic_s()
    for number, batch in enumerate(_batches(block_count, block_size)):
        started_s = clock.monotonic_s()
        if number >= ALWAYS_STEPS and started_s - began_s > CALIBRATION_LIMIT_S:
            return
        runner.run(batch)
        if number:  # the first one warms allocators and caches
            learn(shape_of(batch.slices), clock.monotonic_s() - started_s)


def _batches(block_count: int, block_size: int) -> Iterator[StepBatch]:
    greedy = SamplingParams(max_tokens=1, temperature=0.0)
    for sequences, tokens, held in (STEPS[0], *STEPS):
        blocks = -(-(held + tokens) // block_size)
        if sequences * blocks > block_count:
            continue
        sample = SampleRequest(greedy, (0,) * (held + tokens), (), ())
        yield StepBatch(
            tuple(
                BatchSlice(
                    f"calibration {index}",
                    (0,) * tokens,
                    held,
                    range(index * blocks, (index + 1) * blocks),
                    sample,
                )
                for index in range(sequences)
            )
        )
