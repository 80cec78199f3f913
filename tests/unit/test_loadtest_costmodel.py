"""Predicted against measured: which steps are learned from, and what the load consists of."""

import pytest
from baton.engine.batch import SliceResult, StepBatch
from baton.engine.blocks import BlockPool
from baton.engine.costmodel import Coefficients
from baton.engine.engine import Engine
from baton.engine.params import TokenSample
from baton.engine.plan import KvIdentity, SchedulerLimits
from baton.engine.scheduler import Scheduler
from baton.engine.stepshape import StepShape, decode_shape, prefill_shape, shape_of
from baton_loadtest.costmodel_run import LIVE_MAX, mixed_steps
from baton_loadtest.costmodel_stats import (
    MeasuredStep,
    judge_by_kind,
    kind_of,
    predict_second_half,
)

LAW = Coefficients(1e-2, 1e-3, 1e-7, 5e-4, 1e-6)


class TimedRunner:
    """Says token 7 to everything, and takes as long as the law says, on a clock of its own."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def run(self, batch: StepBatch) -> list[SliceResult]:
        self.now_s += LAW.predict_step(shape_of(batch.slices))
        said = (TokenSample(7),)
        return [SliceResult(said if piece.sample else ()) for piece in batch.slices]

    def read_blocks(self, block_ids: object) -> bytes:
        raise AssertionError("nothing is handed over")

    def touch(self) -> bool:
        return False

    def write_blocks(self, block_ids: object, payload: bytes) -> None:
        raise AssertionError("nothing is handed over")

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_s(self) -> float:
        return self.now_s


def measured(count: int) -> tuple[MeasuredStep, ...]:
    runner = TimedRunner()
    pool = BlockPool(2_000, 16)
    limits = SchedulerLimits(token_budget=128, sequences_max=64, context_length_max=2_000)
    scheduler = Scheduler(limits, pool, KvIdentity("m", "float32"), ())
    engine = Engine(scheduler, pool, runner, runner)
    return mixed_steps(engine, count, vocab_size=1_000, clock=runner, seed=1)


def test_the_load_has_steps_of_every_kind_and_a_lawful_engine_is_predicted() -> None:
    steps = measured(600)
    assert len(steps) == 600
    assert max(step.shape.decode_rows for step in steps) <= LIVE_MAX
    found, predictions = predict_second_half(steps)
    rows = {row.kind: row for row in judge_by_kind(predictions)}
    assert {"decode 1", "decode to 4", "decode to 16", "prefill", "mixed", "all"} <= rows.keys()
    assert rows["all"].steps == 300
    assert rows["all"].error_mean < 0.01
    assert rows["all"].online_error_mean < 0.01
    assert found.decode_row_s == pytest.approx(LAW.decode_row_s, rel=0.05)


def test_the_first_half_alone_decides_what_is_predicted_for_the_second() -> None:
    shape = decode_shape(2, 100)
    steps = [MeasuredStep(shape, 0.01)] * 40 + [MeasuredStep(shape, 0.02)] * 40
    _, predictions = predict_second_half(steps)
    row = judge_by_kind(predictions)[-1]
    assert (row.kind, row.steps) == ("all", 40)
    assert row.measured_mean_s == pytest.approx(0.02)
    assert row.predicted_mean_s == pytest.approx(0.01, rel=1e-3)
    assert row.error_mean == pytest.approx(0.5, rel=1e-2)
    assert row.online_error_mean < row.error_mean / 1.5


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        (prefill_shape(8, 0), "prefill"),
        (StepShape(8, 100, 2, 50), "mixed"),
        (decode_shape(1, 9), "decode 1"),
        (decode_shape(2, 9), "decode to 2"),
        (decode_shape(5, 9), "decode to 8"),
        (decode_shape(8, 9), "decode to 8"),
    ],
)
def test_steps_are_named_by_what_they_compute(shape: StepShape, kind: str) -> None:
    assert kind_of(shape) == kind
