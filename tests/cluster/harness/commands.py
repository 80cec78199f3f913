"""Runs programs to their end, and waits for the world, both with a limit. Knows no cluster."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cluster.harness.errors import CommandFailed, LimitReached

COMMAND_LIMIT_S = 120.0  # twice the slowest kubectl call seen while both cores compiled
POLL_INTERVAL_S = 0.1  # short beside the seconds that a start takes
OUTPUT_SHOWN_CHARS = 4000  # of a failed program: the end holds the error


def run(
    argv: Sequence[str],
    *,
    limit_s: float = COMMAND_LIMIT_S,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """What `argv` wrote to stdout. `env` is added to ours. Raises CommandFailed, LimitReached."""
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            cwd=cwd,
            env={**os.environ, **env} if env else None,
        )
    except subprocess.TimeoutExpired as late:
        raise LimitReached(f"{_shown(argv)}: not done in {limit_s:g} s") from late
    if done.returncode != 0:
        output = (done.stdout + done.stderr)[-OUTPUT_SHOWN_CHARS:]
        raise CommandFailed(f"{_shown(argv)}: status {done.returncode}\n{output}")
    return done.stdout


def succeeds(argv: Sequence[str], *, limit_s: float = COMMAND_LIMIT_S) -> bool:
    """Whether `argv` ends well and in time."""
    try:
        run(argv, limit_s=limit_s)
    except (CommandFailed, LimitReached):
        return False
    return True


def until(condition: Callable[[], bool], *, limit_s: float, what: str) -> None:
    """Returns once `condition` holds. Raises LimitReached, which says `what` was awaited."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise LimitReached(f"not in {limit_s:g} s: {what}")
        time.sleep(POLL_INTERVAL_S)


def _shown(argv: Sequence[str]) -> str:
    text = " ".join(argv)
    return text if len(text) <= 300 else f"{text[:300]}…"
