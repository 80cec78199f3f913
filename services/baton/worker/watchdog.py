"""When a worker that no longer moves is given up: a step that never ends, an event loop that does
not turn. Pure.

Judges by what it saw change between two looks and by the time it was itself awake: a process that
was stopped or a machine that slept has not stood still for its own fault. Knows no threads, no
clock and no engine; what a verdict leads to is its reader's.
"""

from dataclasses import dataclass
from enum import Enum

from baton.worker.progress import Phase

LOOK_INTERVAL_S = 1.0
"""Also what two looks may be apart at most; more means that the watchdog itself did not run, and
twice this is all that is held against the others."""

STEP_LIMIT_S = 60.0
"""Of any phase, and of a step that should be short. Routers leave a worker whose steps stand still
within seconds; this only has to tell a stuck kernel from a slow machine, and a false alarm costs a
loaded model. A CPU throttled to a twentieth still ends a one-second step by a third of this."""

STEP_LIMIT_RATIO = 20.0
"""Of what the cost model predicts, where that is longer: large models on small machines."""

LOOP_LIMIT_S = 15.0
"""The loop copies KV frames of 4 MiB at most, about 1 ms each: nothing keeps it for seconds."""

EXIT_LIMIT_S = 15.0
"""From the verdict to the end of the process, by force if need be: moving requests takes a second,
stopping servers and threads seven at most."""


@dataclass(frozen=True, slots=True)
class Limits:
    step_s: float = STEP_LIMIT_S
    step_ratio: float = STEP_LIMIT_RATIO
    loop_s: float = LOOP_LIMIT_S
    exit_s: float = EXIT_LIMIT_S


class Verdict(Enum):
    """What the process is to `/live` and to whoever restarts it."""

    FINE = "ok"
    STEP_STUCK = "an engine step does not end"
    LOOP_STUCK = "the event loop does not turn"
    HOPELESS = "the process did not end by itself"


class Watchdog:
    """A verdict other than FINE is final: whoever was told has begun to end the process."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._phase_number = 0
        self._phase_s = 0.0
        self._beats = 0
        self._loop_s = 0.0
        self._ending_s = 0.0
        self.verdict = Verdict.FINE

    @property
    def phase_s(self) -> float:
        """How long the phase under way has been seen."""
        return self._phase_s

    def look(self, elapsed_s: float, phase: Phase | None, predicted_s: float, beats: int) -> None:
        """`elapsed_s` after the look before: the engine is in `phase`, predicted to take
        `predicted_s` (0: unknown), and the loop has beaten `beats` times."""
        elapsed_s = min(elapsed_s, 2 * LOOK_INTERVAL_S)
        number = 0 if phase is None else phase.number
        same = phase is not None and number == self._phase_number
        self._phase_s = self._phase_s + elapsed_s if same else 0.0
        self._loop_s = self._loop_s + elapsed_s if beats == self._beats else 0.0
        self._phase_number, self._beats = number, beats
        if self.verdict is Verdict.FINE:
            self.verdict = self._judge(predicted_s)
            return
        self._ending_s += elapsed_s
        if self._ending_s >= self._limits.exit_s:
            self.verdict = Verdict.HOPELESS

    def _judge(self, predicted_s: float) -> Verdict:
        limits = self._limits
        if self._phase_s >= max(limits.step_s, limits.step_ratio * predicted_s):
            return Verdict.STEP_STUCK
        return Verdict.LOOP_STUCK if self._loop_s >= limits.loop_s else Verdict.FINE
