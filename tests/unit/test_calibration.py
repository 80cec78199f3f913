"""The steps before the first request: few, bounded in time, within the cache."""

from baton.engine.batch import SliceResult, StepBatch
from baton.engine.calibration import ALWAYS_STEPS, CALIBRATION_LIMIT_S, STEPS, calibrate
from baton.engine.costmodel import Coefficients, CostModel
from baton.engine.stepshape import StepShape, decode_shape, prefill_shape, shape_of

LAW = Coefficients(1e-3, 1e-4, 1e-8, 2e-4, 1e-6)


class TimedRunner:
    """Takes as long as a law says, on a clock of its own."""

    def __init__(self, slowdown: float = 1.0) -> None:
        self.now_s, self.slowdown = 0.0, slowdown
        self.batches: list[StepBatch] = []

    def run(self, batch: StepBatch) -> list[SliceResult]:
        self.batches.append(batch)
        self.now_s += self.slowdown * LAW.predict_step(shape_of(batch.slices))
        return [SliceResult() for _ in batch.slices]

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_s(self) -> float:
        return self.now_s


def calibrated(runner: TimedRunner, block_count: int = 1_000) -> CostModel:
    costs = CostModel()
    calibrate(runner, costs.learn, block_count=block_count, block_size=16, clock=runner)
    return costs


def test_every_term_of_the_law_is_found_by_the_calibration_alone() -> None:
    found = calibrated(TimedRunner()).coefficients
    for shape in (StepShape(100, 30_000, 0, 0), StepShape(0, 0, 3, 1_000)):
        expected_s = LAW.predict_step(shape)
        assert abs(found.predict_step(shape) - expected_s) < 0.05 * expected_s


def test_a_slow_model_is_asked_for_few_steps() -> None:
    runner = TimedRunner(slowdown=40.0)
    costs = calibrated(runner)
    last_s = LAW.predict_step(shape_of(runner.batches[-1].slices)) * runner.slowdown
    assert runner.now_s - last_s <= CALIBRATION_LIMIT_S
    assert len(runner.batches) < len(STEPS)
    assert costs.snapshot().steps == len(runner.batches) - 1


def test_even_the_slowest_model_knows_a_decode_from_a_prompt() -> None:
    runner = TimedRunner(slowdown=10_000.0)
    found = calibrated(runner).coefficients
    assert len(runner.batches) == ALWAYS_STEPS
    assert 0 < found.predict_step(decode_shape(1, 16)) < found.predict_step(prefill_shape(64, 0))


def test_blocks_are_those_of_the_cache_and_nobody_shares_one() -> None:
    runner = TimedRunner()
    calibrated(runner, block_count=20)
    assert runner.batches
    for batch in runner.batches:
        tables = [block for piece in batch.slices for block in piece.block_table]
        assert len(tables) == len(set(tables))
        assert max(tables) < 20
        for piece in batch.slices:
            assert len(piece.block_table) * 16 >= piece.context_length
