"""Leads a process group for one command: `python -m baton_loadtest.peers.guard PARENT_PID
COMMAND...`.

Servers start children that outlive them; left behind, these would take the cores of whatever is
measured next. So when the parent dies, however it dies, the guard ends its whole group. As long as
the parent lives the guard only passes signals on. Knows nothing of what it guards.
"""

import ctypes
import os
import signal
import subprocess
import sys
from types import FrameType

PR_SET_PDEATHSIG = 1  # linux/prctl.h

GRACE_S = 30
"""Between asking and killing, when there is no parent left to decide."""

SIGNAL_EXIT_CODE = 128
"""Plus the signal's number: how shells tell the end of a killed command."""


def guard(parent_pid: int, command: list[str]) -> int:
    """Until the command ends; its exit code."""
    child = subprocess.Popen(command)

    def pass_on(signum: int, frame: FrameType | None) -> None:
        child.terminate()
        if os.getppid() != parent_pid:
            signal.alarm(GRACE_S)

    def give_up(signum: int, frame: FrameType | None) -> None:
        os.killpg(0, signal.SIGKILL)

    signal.signal(signal.SIGALRM, give_up)
    signal.signal(signal.SIGTERM, pass_on)
    ask_for_sigterm_with(parent_pid)
    code = child.wait()
    if os.getppid() != parent_pid:
        os.killpg(0, signal.SIGKILL)
    return code if code >= 0 else SIGNAL_EXIT_CODE - code


def ask_for_sigterm_with(parent_pid: int) -> None:
    """The kernel sends it when the parent ends; on systems other than Linux nobody does."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before we asked
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(guard(int(sys.argv[1]), sys.argv[2:]))
