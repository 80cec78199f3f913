"""Runs a command that cannot outlive its parent: `python -m baton.cli.tether PARENT_PID
COMMAND...`.

The kernel keeps the wish across exec, so the process becomes the command itself and nothing stays
in between. Being an own program, it runs nothing between fork and exec of the (threaded) parent. On
systems other than Linux the command simply runs. Knows nothing of what it runs.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with(parent_pid: int) -> None:
    """Ask the kernel to kill this process when the parent's thread that started it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:  # it died before we asked
        raise SystemExit(1)


def main(argv: list[str]) -> None:
    if sys.platform == "linux":
        die_with(int(argv[0]))
    os.execvp(argv[1], argv[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
