"""The engine's own thread: takes commands between steps, hands each turn over in one piece.

Sleeps on a condition while there is nothing to do. Knows threads and the engine; knows nothing of
requests' owners: whoever gets the turns sorts them.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from baton.common.errors import BatonError
from baton.engine.batch import KvStore
from baton.engine.messages import Cancel, Command, StepReport, Submit
from baton.engine.params import FinishReason
from baton.worker.progress import StepProgress

TURNS_UNDELIVERED_MAX = 256
"""Seconds of steps: the engine waits only for an event loop that has stopped turning."""


class EngineApi(Protocol):
    """What the thread needs of `baton.engine.engine.Engine`."""

    @property
    def kv(self) -> KvStore: ...

    def apply(self, command: Command) -> None: ...

    def step(self) -> StepReport: ...

    def has_work(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Refused:
    """The engine did not take a command: the request has ended with `error`."""

    request_id: str
    error: BatonError


@dataclass(frozen=True, slots=True)
class Loaded:
    """The first thing handed over."""

    kv: KvStore


@dataclass(frozen=True, slots=True)
class Turn:
    """Everything since the last turn."""

    report: StepReport
    refused: tuple[Refused, ...]
    duration_s: float  # of the step, without waiting
    planned_s: float = 0.0  # when it began; this and the next are `time.perf_counter` stamps
    ended_s: float = 0.0
    submitted: tuple[tuple[Submit, float], ...] = ()  # the submits it took in, and when they came


@dataclass(frozen=True, slots=True)
class Broken:
    """The last thing handed over: the engine could not be built, or a step failed."""

    error: Exception


Handover = Loaded | Turn | Broken


class EngineThread:
    """`build` runs on the thread too: whatever torch ties to a thread is tied to this one.

    `hand_over` is called on the thread and returns False when nobody listens any more. The inbox is
    bounded by what its callers admit: a few commands per live request and one per KV frame, and
    frames are bounded by the blocks of the pool.
    """

    def __init__(
        self,
        build: Callable[[], EngineApi],
        hand_over: Callable[[Handover], bool],
        progress: StepProgress,
    ) -> None:
        self._build = build
        self._hand_over = hand_over
        self._progress = progress
        self._inbox: list[tuple[Command, float]] = []  # with the time it was posted
        self._stopping = False
        self._awake = threading.Condition()
        self._undelivered = threading.Semaphore(TURNS_UNDELIVERED_MAX)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def post(self, command: Command) -> None:
        """Apply `command` before the next step. Never blocks for longer than a list append."""
        with self._awake:
            self._inbox.append((command, time.perf_counter()))
            self._awake.notify()

    def delivered(self) -> None:
        """A turn reached its listener."""
        self._undelivered.release()

    def stop(self) -> None:
        """End after the step that runs, if any."""
        with self._awake:
            self._stopping = True
            self._awake.notify()
        self._undelivered.release()

    def join(self, limit_s: float) -> bool:
        """Whether the thread has ended, within `limit_s`."""
        if self._thread.ident is not None:
            self._thread.join(limit_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            engine = self._build()
            if not self._hand_over(Loaded(engine.kv)):
                return
            while (commands := self._take(engine)) is not None:
                with self._progress.phase():
                    turn = _turn(engine, commands)
                self._undelivered.acquire()
                if not self._hand_over(turn):
                    return
        except Exception as error:  # anything: the process is of no further use, and says so
            self._hand_over(Broken(error))

    def _take(self, engine: EngineApi) -> list[tuple[Command, float]] | None:
        """The commands since the last turn, as soon as there is work; None: stop."""
        with self._awake:
            while not self._stopping and not self._inbox and not engine.has_work():
                self._awake.wait()
            commands, self._inbox = self._inbox, []
            return None if self._stopping else commands


def _turn(engine: EngineApi, commands: Sequence[tuple[Command, float]]) -> Turn:
    began_s = time.perf_counter()
    refused, submitted = [], []
    for command, posted_s in commands:
        if isinstance(command, Submit):
            submitted.append((command, posted_s))
        try:
            engine.apply(command)
        except BatonError as error:
            refused.append(Refused(command.request_id, error))
            if not isinstance(command, Submit):  # it runs, but no longer as its owner believes
                engine.apply(Cancel(command.request_id, FinishReason.CANCELLED))
    report = engine.step()
    ended_s = time.perf_counter()
    duration_s = ended_s - began_s
    return Turn(report, tuple(refused), duration_s, began_s, ended_s, tuple(submitted))
