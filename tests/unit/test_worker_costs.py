"""Turns teach the cost model, and its metrics show what it has learned."""

from baton.common.metrics import Metrics
from baton.engine.costmodel import CostModel
from baton.engine.messages import EngineLoad, StepReport
from baton.engine.stepshape import StepShape, decode_shape
from baton.worker.costs import METRICS_INTERVAL_TURNS, CostMetrics
from baton.worker.turns import Turn
from prometheus_client import CollectorRegistry


def turn(shape: StepShape | None, duration_s: float) -> Turn:
    return Turn(StepReport((), (), (), EngineLoad(0, 0, 0, 0, 0), shape), (), duration_s)


def test_only_turns_that_ran_a_step_teach() -> None:
    costs = CostModel()
    observer = CostMetrics(costs, Metrics(CollectorRegistry(), model_name="m"))
    observer.observe(turn(None, 0.5))
    assert costs.snapshot().steps == 0
    observer.observe(turn(decode_shape(2, 20), 0.5))
    assert costs.snapshot().steps == 1


def test_gauges_follow_the_model_and_name_its_terms() -> None:
    registry = CollectorRegistry()
    costs = CostModel()
    observer = CostMetrics(costs, Metrics(registry, model_name="m"))
    for number in range(METRICS_INTERVAL_TURNS + 1):
        rows = 1 + number % 5
        observer.observe(turn(decode_shape(rows, 10 * rows), 0.01 + 0.002 * rows))
    labels = {"model_name": "m", "term": "fixed"}
    fixed_s = registry.get_sample_value("baton_cost_model_seconds", labels)
    assert fixed_s == costs.coefficients.fixed_s
    assert registry.get_sample_value("baton_cost_model_error_ratio", {"model_name": "m"}) == (
        costs.error_ratio
    )
