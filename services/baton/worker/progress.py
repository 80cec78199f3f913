"""What the engine's thread and the event loop are at, noted where a watchdog can read it.

Each is written by one thread and read by others; a field is replaced whole, so no lock is needed.
Knows no clock: who looks twice and sees the same knows that nothing moved.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from baton.engine.batch import Launcher, Runner, SliceResult, StepBatch, Ticket
from baton.engine.stepshape import StepShape, shape_of


@dataclass(frozen=True, slots=True)
class Phase:
    """Something the engine has begun and not ended."""

    number: int  # tells it from every other one
    shape: StepShape | None  # of the model step; None: planning, committing or taking commands


class StepProgress:
    """Written by the engine's thread."""

    def __init__(self) -> None:
        self.current: Phase | None = None  # None: waits for work, or for the model to be loaded
        self._number = 0

    @contextmanager
    def phase(self, shape: StepShape | None = None) -> Iterator[None]:
        """The body of a `with` is a phase; within one of these, a part of its own."""
        outer = self.current
        self._enter(shape)
        try:
            yield
        finally:
            if outer is None:
                self.current = None
            else:
                self._enter(outer.shape)

    def _enter(self, shape: StepShape | None) -> None:
        self._number += 1
        self.current = Phase(self._number, shape)


class WatchedRunner:
    """Implements Runner: the runner it wraps, with every step noted."""

    def __init__(self, runner: Runner, progress: StepProgress) -> None:
        self._runner = runner
        self._progress = progress

    def run(self, batch: StepBatch) -> list[SliceResult]:
        """Raises what the wrapped runner raises."""
        with self._progress.phase(shape_of(batch.slices)):
            return self._runner.run(batch)


class WatchedLauncher(WatchedRunner):
    """Implements Launcher: the launcher it wraps, with every launch and every wait noted."""

    def __init__(self, launcher: Launcher, progress: StepProgress) -> None:
        super().__init__(launcher, progress)
        self._launcher = launcher
        self._shapes: dict[Ticket, StepShape] = {}  # of the steps under way

    def launch(self, batch: StepBatch) -> Ticket:
        """Raises what the wrapped launcher raises."""
        shape = shape_of(batch.slices)
        with self._progress.phase(shape):
            ticket = self._launcher.launch(batch)
        self._shapes[ticket] = shape
        return ticket

    def collect(self, ticket: Ticket) -> list[SliceResult]:
        """Raises what the wrapped launcher raises."""
        with self._progress.phase(self._shapes.pop(ticket)):
            return self._launcher.collect(ticket)


class Heartbeat:
    """Written by the event loop."""

    def __init__(self) -> None:
        self.beats = 0

    def beat(self) -> None:
        self.beats += 1
