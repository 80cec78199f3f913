"""Work that is done once: a step leaves a stamp and is skipped as long as the stamp is true.

A stamp holds the step's fingerprint (versions, flags, CPU), so a step is done again when one of
them changes. Knows no particular step.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from baton.common.clock import Clock
from baton.common.errors import BatonError, Unavailable

from baton_loadtest.peers.process import Command, Runner

FINGERPRINT_CHARS = 12
"""48 bits: two states of one machine do not meet."""


class Tell(Protocol):
    """Hears what is being done; the terminal."""

    def __call__(self, text: str) -> None: ...


Run = Callable[[Command], None]


@dataclass(frozen=True, slots=True)
class Step:
    name: str  # of its stamp and its log
    fingerprint: str  # of all that its outcome depends on
    produces: Path  # is there afterwards
    act: Callable[[Run], None]  # may find what an interrupted act left behind


def fingerprint(*parts: str) -> str:
    """Hex digits that change with any of the parts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:FINGERPRINT_CHARS]


class Workbench:
    """Carries steps out in one folder."""

    def __init__(self, folder: Path, runner: Runner, *, clock: Clock, tell: Tell) -> None:
        self._folder = folder
        self._runner = runner
        self._clock = clock
        self._tell = tell

    def carry_out(self, steps: Sequence[Step]) -> None:
        """In order; raises Unavailable or DeadlineExceeded at the first that fails."""
        for step in steps:
            if self.is_done(step):
                self._tell(f"{step.name}: already there")
            else:
                self._do(step)

    def is_done(self, step: Step) -> bool:
        stamp = self._stamp(step)
        return step.produces.exists() and stamp.exists() and stamp.read_text() == step.fingerprint

    def _do(self, step: Step) -> None:
        log = self._folder / "logs" / f"{step.name}.log"
        log.unlink(missing_ok=True)  # of an earlier run
        self._tell(f"{step.name}: started, its words go to {log}")
        started_s = self._clock.monotonic_s()
        self._stamp(step).unlink(missing_ok=True)
        try:
            step.act(lambda command: self._runner.run(command, log))
        except (BatonError, OSError) as error:
            raise Unavailable(f"{step.name}: {error}") from error
        if not step.produces.exists():
            raise Unavailable(f"{step.name} ended well, yet made no {step.produces.name}")
        self._mark(step)
        self._tell(f"{step.name}: done in {self._clock.monotonic_s() - started_s:.0f} s")

    def _mark(self, step: Step) -> None:
        stamp = self._stamp(step)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        draft = stamp.with_suffix(".draft")
        draft.write_text(step.fingerprint)
        os.replace(draft, stamp)  # all of it or nothing

    def _stamp(self, step: Step) -> Path:
        return self._folder / "stamps" / f"{step.name}.stamp"


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Holds the folder; two runs would measure each other. Raises Unavailable when it is held."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable("another run is using the same work folder") from None
        yield
