"""The parts of `make gpu`: how long each may take, and how one is ended that takes longer.

Knows processes and times; knows nothing of what they measure.
"""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import IO

from baton.common.clock import Clock


class Part(Enum):
    """In their order: what others stand on first, what a short run can do without last."""

    PARITY = "parity"
    ALONE = "alone"
    KERNELS = "kernels"
    END_TO_END = "end-to-end"
    WORKERS = "workers"
    QUALITY = "quality"


TYPICAL_S = {
    Part.PARITY: 95.0,
    Part.ALONE: 30.0,
    Part.KERNELS: 25.0,
    Part.END_TO_END: 145.0,
    Part.WORKERS: 70.0,
    Part.QUALITY: 120.0,
}
"""Estimated for an H200 with a slow processor beside it; no part has run there yet."""

SLACK = 1.35
"""Of its estimate a part may take this much, even where those after it then have too little."""

GRACE_S, GRACE_SHARE = 12.0, 0.2
"""Of a part's time, to say what it knows when it has to end: at most this, and this share."""

INTERRUPTED = 0.8
"""Of its grace: the rest is for a part that an interrupt does not reach, as one that waits for the
device."""

TELLING = {"PYTHONFAULTHANDLER": "1", "PYTHONUNBUFFERED": "1"}
"""Whoever is killed has said all it had to say, and where it stood."""


class TimeShares:
    """Of what is left, a part may have its share by the estimates of all that are to come, and in
    any case what it needs by its own: a short time is spent on the first of them."""

    def __init__(self, within_s: float, parts: Sequence[Part], clock: Clock) -> None:
        self._clock, self._to_come = clock, list(parts)
        self._ends_s = clock.monotonic_s() + within_s

    @property
    def left_s(self) -> float:
        return max(0.0, self._ends_s - self._clock.monotonic_s())

    def next_s(self) -> float:
        """Of the next part."""
        share = self.left_s / sum(TYPICAL_S[part] for part in self._to_come)
        part_s = TYPICAL_S[self._to_come.pop(0)]
        return min(self.left_s, max(share, SLACK) * part_s)


def python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def grace_s(limit_s: float) -> float:
    """Of a limit, what is kept for ending."""
    return min(GRACE_S, limit_s * GRACE_SHARE)


def run_within(
    command: Sequence[str],
    limit_s: float,
    *,
    setting: Mapping[str, str] | None = None,
    said: IO[bytes] | None = None,
) -> int | None:
    """Its exit code; None where it was ended, with whatever it had started in its group.

    `setting`: of its environment, beside ours. `said`: gets its output instead of the terminal.
    """
    process = _started(command, os.environ | TELLING | dict(setting or {}), said)
    code: int | None = None
    try:
        code = process.wait(limit_s - grace_s(limit_s))
    except subprocess.TimeoutExpired:
        _end(process, grace_s(limit_s))
    finally:
        if code is None:
            with suppress(ProcessLookupError):  # nobody of the group is left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return code


def _started(
    command: Sequence[str], environment: Mapping[str, str], said: IO[bytes] | None
) -> subprocess.Popen[bytes]:
    # what a shell starts in its background ignores interrupts, and so would all that we start
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    # an aborted process with a device's memory mapped would write it all to a file
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    try:
        return subprocess.Popen(command, process_group=0, env=environment, stdout=said, stderr=said)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
        signal.signal(signal.SIGINT, handler)


def _end(process: subprocess.Popen[bytes], within_s: float) -> None:
    """Interrupted, pytest prints its failures and a command stops what it has started; aborted,
    Python says where each thread stands, that of a worker in its group too."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(within_s * INTERRUPTED)
        return
    os.killpg(process.pid, signal.SIGABRT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(within_s * (1 - INTERRUPTED))
