"""Predicted against measured, by kind of step. Pure.

The model learns the first half of the steps and predicts the second without learning from it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from baton.engine.costmodel import Coefficients, CostModel
from baton.engine.stepshape import StepShape


@dataclass(frozen=True, slots=True)
class MeasuredStep:
    shape: StepShape
    duration_s: float


@dataclass(frozen=True, slots=True)
class KindRow:
    """All steps of one kind."""

    kind: str
    steps: int
    measured_mean_s: float
    predicted_mean_s: float
    error_mean: float  # of |predicted - measured| / measured
    bias_mean: float  # of (predicted - measured) / measured


def kind_of(shape: StepShape) -> str:
    """`prefill`, `decode` or `mixed`, with the size of its decode batch."""
    if not shape.decode_rows:
        return "prefill"
    if shape.prefill_tokens:
        return "mixed"
    rows = shape.decode_rows
    return f"decode {rows}" if rows == 1 else f"decode to {1 << (rows - 1).bit_length()}"


def learn_half(steps: Sequence[MeasuredStep]) -> tuple[CostModel, Sequence[MeasuredStep]]:
    """A model of the first half, and the other half."""
    model = CostModel()
    half = len(steps) // 2
    for step in steps[:half]:
        model.learn(step.shape, step.duration_s)
    return model, steps[half:]


def judge_by_kind(found: Coefficients, steps: Sequence[MeasuredStep]) -> tuple[KindRow, ...]:
    """A row per kind, and one of all; `steps` is not empty."""
    kinds: dict[str, list[MeasuredStep]] = {}
    for step in sorted(steps, key=lambda one: (one.shape.prefill_tokens, one.shape.decode_rows)):
        kinds.setdefault(kind_of(step.shape), []).append(step)
    rows = [_row(kind, found, members) for kind, members in kinds.items()]
    return (*rows, _row("all", found, steps))


def _row(kind: str, found: Coefficients, steps: Sequence[MeasuredStep]) -> KindRow:
    predicted_s = [found.predict_step(step.shape) for step in steps]
    measured_s = [step.duration_s for step in steps]
    biases = [p / m - 1 for p, m in zip(predicted_s, measured_s, strict=True)]
    count = len(steps)
    return KindRow(
        kind=kind,
        steps=count,
        measured_mean_s=math.fsum(measured_s) / count,
        predicted_mean_s=math.fsum(predicted_s) / count,
        error_mean=math.fsum(map(abs, biases)) / count,
        bias_mean=math.fsum(biases) / count,
    )
