"""Whether a worker's engine still steps: frozen is who has work and makes no step for too long.

Pure; time comes in as a number. Knows nothing of silence: a worker that tells nothing at all is
its listener's to notice.
"""

from baton.engine.stepshape import StepShape
from baton.router.fleet import WorkerLoad

FROZEN_AFTER_S = 3.0

FROZEN_AFTER_STEPS = 4.0
"""Where steps themselves take long, so many of the longest there may be."""

STEP_PREFILL_TOKENS_MAX = 2_048
"""Prompt tokens of a step: more than any worker is set to."""


class Pulse:
    """Of one process."""

    def __init__(self) -> None:
        self._step: int | None = None
        self._since_s = 0.0  # when the step was last seen to change, or there was nothing to do

    def frozen(self, load: WorkerLoad, now_s: float) -> bool:
        """Take in a report."""
        if load.step != self._step or not load.running:
            self._step, self._since_s = load.step, now_s
        return now_s - self._since_s > patience_s(load)


def patience_s(load: WorkerLoad) -> float:
    """How long one step may take at most."""
    tokens = min(load.prefill_tokens_waiting, STEP_PREFILL_TOKENS_MAX)
    step_s = load.coefficients.predict_step(StepShape(tokens, 0, load.running, 0))
    return max(FROZEN_AFTER_S, FROZEN_AFTER_STEPS * step_s)
