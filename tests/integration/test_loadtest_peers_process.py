"""Real process groups: bounded, stopped whole, their last words kept."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from baton.common.clock import SystemClock
from baton.common.errors import DeadlineExceeded, Unavailable
from baton_loadtest.peers.process import Command, ProcessGroup, ProcessRunner

PARENT_OF_A_STUBBORN_CHILD = """
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
signal.pause()
"""

BENCH = """
import sys, time
from pathlib import Path
from baton.common.clock import SystemClock
from baton_loadtest.peers.process import Command, ProcessGroup
command = Command((sys.executable, "-c", sys.argv[2]), 30.0)
group = ProcessGroup(command, Path(sys.argv[1]), clock=SystemClock(), pause=time.sleep)
group.wait(60.0)
"""

LIMIT_S = 30.0


def python(code: str, limit_s: float = 30.0, **environment: str) -> Command:
    return Command((sys.executable, "-c", code), limit_s, environment)


def runner() -> ProcessRunner:
    return ProcessRunner(clock=SystemClock(), pause=time.sleep)


def test_output_and_errors_go_to_the_log(tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['WORD']); print('oops', file=sys.stderr)"
    runner().run(python(code, WORD="hello"), tmp_path / "new" / "log")
    assert sorted((tmp_path / "new" / "log").read_text().split()) == ["hello", "oops"]


def test_a_failed_command_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"(?s)exit code 1: .*no compiler"):
        runner().run(python("raise SystemExit('no compiler')"), tmp_path / "log")


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(DeadlineExceeded, match="not done after 1 s"):
        runner().run(python("import signal; signal.pause()", limit_s=1.0), tmp_path / "log")


def test_a_stopped_group_leaves_no_process_behind(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = python(PARENT_OF_A_STUBBORN_CHILD)
    group = ProcessGroup(command, log, clock=SystemClock(), pause=time.sleep)
    try:
        child = int(first_line(log))
        assert group.exit_code() is None
    finally:
        group.stop(limit_s=5.0)
    assert group.exit_code() is not None
    assert gone(child)
    group.stop(limit_s=5.0)  # a second time changes nothing


def test_a_group_whose_parent_was_killed_ends_too(tmp_path: Path) -> None:
    """However the bench dies, no server is left to take the cores."""
    log = tmp_path / "log"
    bench = subprocess.Popen((sys.executable, "-c", BENCH, str(log), PARENT_OF_A_STUBBORN_CHILD))
    try:
        child = int(first_line(log))
    finally:
        bench.kill()
        bench.wait()
    assert gone(child)


def first_line(log: Path) -> str:
    give_up_s = time.monotonic() + LIMIT_S
    while not (log.exists() and log.read_text().endswith("\n")):
        assert time.monotonic() < give_up_s
        time.sleep(0.02)
    return log.read_text()


def gone(pid: int) -> bool:
    """Ended, even if its new parent has not yet taken notice."""
    give_up_s = time.monotonic() + LIMIT_S
    while time.monotonic() < give_up_s:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        status = Path(f"/proc/{pid}/stat")
        if status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False
