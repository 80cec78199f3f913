"""A command as a value, and the process group it becomes: bounded in time, its words in a file.

Knows processes and signals; knows nothing of what they do.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from baton.cli.child import described_exit
from baton.common.clock import Clock
from baton.common.errors import DeadlineExceeded, Unavailable

POLL_S = 0.1
"""Between looks at a process; far below the seconds that anything here takes."""

TAIL_BYTES = 2_000
"""Of a log, for an error message: the last words are the reason more often than not."""


@dataclass(frozen=True, slots=True)
class Command:
    argv: tuple[str, ...]
    limit_s: float  # a server: until it is ready; anything else: until it ends
    environment: Mapping[str, str] = field(default_factory=dict)  # on top of ours


class Runner(Protocol):
    def run(self, command: Command, log: Path) -> None:
        """To its end, its output appended to `log`. Raises Unavailable, DeadlineExceeded."""
        ...


Pause = Callable[[float], None]
"""Seconds; `time.sleep` outside of tests."""


class ProcessGroup:
    """A running command in a group of its own, led by a guard, that dies with us.

    The leader is never reaped before the group is killed, so the group's number cannot have become
    somebody else's.
    """

    def __init__(self, command: Command, log: Path, *, clock: Clock, pause: Pause) -> None:
        self._clock = clock
        self._pause = pause
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._leader = subprocess.Popen(
                (
                    sys.executable,
                    "-m",
                    "baton_loadtest.peers.guard",
                    str(os.getpid()),
                    *command.argv,
                ),
                cwd=log.parent,  # `-m` looks there first: not in one of the user's folders
                env={**os.environ, **command.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def exit_code(self) -> int | None:
        """None while the leader runs; negative: the signal that ended it."""
        if self._leader.returncode is not None:
            return self._leader.returncode
        seen = os.waitid(os.P_PID, self._leader.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if seen is None:
            return None
        return seen.si_status if seen.si_code == os.CLD_EXITED else -seen.si_status

    def wait(self, limit_s: float) -> int | None:
        """The leader's exit code; None when it still runs after `limit_s`."""
        give_up_s = self._clock.monotonic_s() + limit_s
        while (code := self.exit_code()) is None and self._clock.monotonic_s() < give_up_s:
            self._pause(POLL_S)
        return code

    def stop(self, limit_s: float) -> None:
        """Ask the leader to end, wait up to `limit_s`, then kill what is left of the group."""
        if self._leader.returncode is not None:
            return
        if self.exit_code() is None:
            self._leader.terminate()
            self.wait(limit_s)
        with suppress(ProcessLookupError):
            os.killpg(self._leader.pid, signal.SIGKILL)
        self._leader.wait()


class ProcessRunner:
    """Runs commands for real, one at a time."""

    def __init__(self, *, clock: Clock, pause: Pause) -> None:
        self._clock = clock
        self._pause = pause

    def run(self, command: Command, log: Path) -> None:
        """As Runner says."""
        group = ProcessGroup(command, log, clock=self._clock, pause=self._pause)
        try:
            code = group.wait(command.limit_s)
        finally:
            group.stop(0)
        if code is None:
            raise DeadlineExceeded(f"not done after {command.limit_s:.0f} s: {last_words(log)}")
        if code != 0:
            raise Unavailable(f"{described_exit(code)}: {last_words(log)}")


def last_words(log: Path) -> str:
    """The end of a log file, empty when there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return file.read().decode("utf-8", "replace").strip()
