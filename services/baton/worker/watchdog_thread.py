"""The watchdog at work: looks every second from a thread of its own, and acts on the verdict.

Says in the log what stands still and where, tells the application once, and ends the process when
that leads nowhere. Knows threads and stacks; when to do what is `watchdog`'s.
"""

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict

from baton.common.lifecycle import EXIT_FAILED
from baton.common.logs import FIELD_LENGTH_MAX, get_log
from baton.engine.costmodel import CostModel
from baton.worker.progress import Heartbeat, StepProgress
from baton.worker.watchdog import LOOK_INTERVAL_S, Limits, Verdict, Watchdog


class WatchdogThread:
    """Watches from `start` to `stop`. `alarm` is called once, on this thread."""

    def __init__(
        self,
        progress: StepProgress,
        heartbeat: Heartbeat,
        costs: CostModel,
        alarm: Callable[[Verdict], None],
        limits: Limits,
        *,
        exit_at_once: Callable[[int], object] = os._exit,
    ) -> None:
        self._progress = progress
        self._heartbeat = heartbeat
        self._costs = costs
        self._alarm = alarm
        self._exit_at_once = exit_at_once
        self._watchdog = Watchdog(limits)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._log = get_log(__name__)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    @property
    def verdict(self) -> Verdict:
        return self._watchdog.verdict

    def _run(self) -> None:
        looked_s = time.monotonic()
        while not self._stopping.wait(LOOK_INTERVAL_S):
            now_s = time.monotonic()
            before = self.verdict
            self._look(now_s - looked_s)
            looked_s = now_s
            if self.verdict is before:
                continue
            if self.verdict is Verdict.HOPELESS:
                self._log.error("ended by force", verdict=before.value)
                self._exit_at_once(EXIT_FAILED)
                return
            self._tell()
            self._alarm(self.verdict)

    def _look(self, elapsed_s: float) -> None:
        phase = self._progress.current
        predicted_s = 0.0
        if phase is not None and phase.shape is not None:
            predicted_s = self._costs.coefficients.predict_step(phase.shape)
        self._watchdog.look(elapsed_s, phase, predicted_s, self._heartbeat.beats)

    def _tell(self) -> None:
        phase = self._progress.current
        shape = None if phase is None or phase.shape is None else asdict(phase.shape)
        self._log.error(
            "stuck; this worker ends",
            verdict=self.verdict.value,
            phase_s=round(self._watchdog.phase_s, 1),
            shape=shape,
            stacks=_stacks(),
        )


def _stacks() -> str:
    """Where every thread is, innermost frames last; what does not fit a log field is cut."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    share = FIELD_LENGTH_MAX // max(1, len(names))
    parts = []
    for ident, frame in sys._current_frames().items():
        stack = "".join(traceback.format_stack(frame))
        parts.append(f"{names.get(ident, ident)}: {stack[-share:]}")
    return "\n".join(parts)[:FIELD_LENGTH_MAX]
