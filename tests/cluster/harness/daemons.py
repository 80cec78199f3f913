"""Long-running programs that outlive us: start, find again, stop. Knows nothing of what they do.

A later process, of another `make`, finds a daemon by its pid file. Process ids are used again, so
the file also holds when the process started: only what we started ourselves is ever ended.
"""

import json
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.harness.commands import until
from cluster.harness.errors import LimitReached

STOP_GRACE_S = 10.0  # then it is killed
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
KILL_LIMIT_S = 10.0  # the kernel needs milliseconds, seconds when it must write memory out


@dataclass(frozen=True, slots=True)
class Daemon:
    """One program. `argv` is its whole command line, nsenter included."""

    name: str
    argv: tuple[str, ...]
    run: Path

    @property
    def log(self) -> Path:
        return self.run / "log" / f"{self.name}.log"

    def start(self) -> None:
        """Starts it in a session of its own, so that no Ctrl-C in a terminal reaches it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawnp(
            self.argv[0],
            self.argv,
            os.environ,
            file_actions=(
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log), append, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ),
            setsid=True,
            setsigdef=(signal.SIGPIPE,),  # Python ignores it, and a program would inherit that
        )
        self._pid_file.write_text(json.dumps({"pid": pid, "birth": birth(pid)}))

    def running(self) -> bool:
        return self._pid() is not None

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Ends it if it runs: asks, and after `grace_s` kills. Raises LimitReached."""
        pid = self._pid()
        if pid is not None:
            end(pid, grace_s=grace_s)
        self._pid_file.unlink(missing_ok=True)

    @property
    def _pid_file(self) -> Path:
        return self.run / f"{self.name}.pid"

    def _pid(self) -> int | None:
        """The process, if it is still the one we started."""
        try:
            noted = json.loads(self._pid_file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        pid, born = int(noted["pid"]), noted["birth"]
        return pid if born is not None and birth(pid) == born else None


def end(pid: int, *, grace_s: float) -> None:
    """Ends a process: SIGTERM, after `grace_s` SIGKILL; with none, at once. Raises LimitReached."""
    born = birth(pid)

    def gone() -> bool:
        return born is None or birth(pid) != born

    with suppress(ProcessLookupError):
        if grace_s > 0:
            os.kill(pid, signal.SIGTERM)
        try:
            until(gone, limit_s=grace_s, what=f"process {pid} ends")
        except LimitReached:
            os.kill(pid, signal.SIGKILL)
            until(gone, limit_s=KILL_LIMIT_S, what=f"killed process {pid} ends")


def birth(pid: int) -> str | None:
    """Which boot and which tick of it the process started in; None when it runs no more."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # a child of ours that ended stays a zombie until asked for
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces
    state, ticks = fields[0], fields[19]
    return None if state in "ZX" else f"{BOOT_ID.read_text().strip()}:{ticks}"
