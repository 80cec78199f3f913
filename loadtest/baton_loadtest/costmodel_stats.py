"""Predicted against measured, by kind of step. Pure.

The model learns the first half of the steps. The second half is predicted twice: by what it knew
then, and, as a worker does, by a model that goes on learning after each prediction.
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
    predicted_mean_s: float  # by the first half
    error_mean: float  # of |predicted - measured| / measured
    online_error_mean: float  # the same, by a model that goes on learning


def kind_of(shape: StepShape) -> str:
    """`prefill`, `decode` or `mixed`, with the size of its decode batch."""
    if not shape.decode_rows:
        return "prefill"
    if shape.prefill_tokens:
        return "mixed"
    rows = shape.decode_rows
    return f"decode {rows}" if rows == 1 else f"decode to {1 << (rows - 1).bit_length()}"


@dataclass(frozen=True, slots=True)
class Prediction:
    """A step of the second half, measured and predicted."""

    step: MeasuredStep
    frozen_s: float  # by the first half
    online_s: float  # by everything before this step

    @property
    def errors(self) -> tuple[float, float]:
        """Of the two, relative to the measured duration."""
        measured_s = self.step.duration_s
        return abs(self.frozen_s / measured_s - 1), abs(self.online_s / measured_s - 1)


def predict_second_half(
    steps: Sequence[MeasuredStep],
) -> tuple[Coefficients, tuple[Prediction, ...]]:
    """What the first half says, and the second half under it. At least two steps."""
    model = CostModel()
    half = len(steps) // 2
    for step in steps[:half]:
        model.learn(step.shape, step.duration_s)
    frozen = model.coefficients
    predictions = []
    for step in steps[half:]:
        online_s = model.coefficients.predict_step(step.shape)
        predictions.append(Prediction(step, frozen.predict_step(step.shape), online_s))
        model.learn(step.shape, step.duration_s)
    return frozen, tuple(predictions)


def judge_by_kind(predictions: Sequence[Prediction]) -> tuple[KindRow, ...]:
    """A row per kind, and one of all; at least one prediction."""
    kinds: dict[str, list[Prediction]] = {}
    for one in sorted(predictions, key=_size):
        kinds.setdefault(kind_of(one.step.shape), []).append(one)
    rows = [_row(kind, members) for kind, members in kinds.items()]
    return (*rows, _row("all", predictions))


def _size(prediction: Prediction) -> tuple[int, int]:
    return prediction.step.shape.prefill_tokens, prediction.step.shape.decode_rows


def _row(kind: str, members: Sequence[Prediction]) -> KindRow:
    count = len(members)
    return KindRow(
        kind=kind,
        steps=count,
        measured_mean_s=math.fsum(one.step.duration_s for one in members) / count,
        predicted_mean_s=math.fsum(one.frozen_s for one in members) / count,
        error_mean=math.fsum(one.errors[0] for one in members) / count,
        online_error_mean=math.fsum(one.errors[1] for one in members) / count,
    )
