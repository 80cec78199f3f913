"""`make gpu`: all there is to find out on a CUDA device, one after the other: that it computes what
transformers computes, what each scheme costs in answers, how fast it is.

Each part is a process of its own that writes its result as soon as it has one, and is ended when
its share of the time is over: a part that hangs takes nothing from those that follow. Needs as few
packages as `gpu_command`: also `python -m baton_loadtest.gpu_all`, from the repository's root.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from baton.cli.stack import DEFAULT_MODEL
from baton.common.clock import Clock, SystemClock
from baton.common.errors import BatonError

from baton_loadtest.gpu_command import RESULTS_DIR, require_device, run_program
from baton_loadtest.gpu_parity import parity_json, parity_report
from baton_loadtest.machine import checkout_commit, device_line

WITHIN_S = 3_600.0
"""Far beyond what an unloaded device needs; a lent one says how long it may be held."""

NO_RETRIES = {"PIP_RETRIES": "0"}
"""On a machine without a registry, waiting for one is time of the device."""


class TimeShares:
    """Of what is left, every part may have what all that are still to come may have."""

    def __init__(self, within_s: float, parts: int, clock: Clock) -> None:
        self._clock, self._parts = clock, parts
        self._ends_s = clock.monotonic_s() + within_s

    def next_s(self) -> float:
        share_s = max(0.0, self._ends_s - self._clock.monotonic_s()) / self._parts
        self._parts -= 1
        return share_s


def run_all(
    model: Annotated[
        str, typer.Option(help="Whose quality is measured; skipped where it cannot be had.")
    ] = DEFAULT_MODEL,
    commit: Annotated[
        str | None, typer.Option(help="Of this code, where there is no repository to ask.")
    ] = None,
    within_s: Annotated[float, typer.Option(min=60.0, help="All parts together.")] = WITHIN_S,
    results_dir: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULTS_DIR,
) -> None:
    """Parity, then quality, then speed."""
    require_device()
    of_commit = commit or checkout_commit()
    shares = TimeShares(within_s, 3, SystemClock())
    kept = ("--results-dir", str(results_dir), "--commit", of_commit)
    results_dir.mkdir(parents=True, exist_ok=True)
    ended = [
        measure_parity(results_dir, of_commit, shares.next_s()),
        measure_quality(model, kept, shares.next_s()),
        told("bench", run_within(python("baton_loadtest.gpu_command", *kept), shares.next_s())),
    ]
    if not all(ended):
        raise BatonError("not everything was measured: see above")


def measure_parity(results_dir: Path, commit: str, limit_s: float) -> bool:
    """Counts are kept where the tests came to their end, passed or not."""
    with TemporaryDirectory(prefix="baton-parity-") as name:
        junit = Path(name) / "junit.xml"
        code = run_within(python("pytest", "-q", "tests/gpu", f"--junit-xml={junit}"), limit_s)
        if junit.exists():
            report = parity_report(junit.read_text(), machine=device_line(), commit=commit)
            path = results_dir / f"parity-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
            path.write_text(parity_json(report))
            print(f"written to {path}", flush=True)
    return told("parity", code)


def measure_quality(model: str, kept: Sequence[str], limit_s: float) -> bool:
    problem = missing(model, limit_s)
    if problem is not None:
        print(f"quality: skipped: {problem}", flush=True)
        return True
    command = python("baton_loadtest", "quality", "--device", "cuda", "--model", model, *kept)
    return told("quality", run_within(command, limit_s))


def missing(model: str, limit_s: float) -> str | None:
    """Why the model's files are not here and cannot be fetched; None where they are here now."""
    try:
        pull = subprocess.run(
            python("baton.cli", "model", "pull", model),
            env=os.environ | NO_RETRIES,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{model} was not here after {limit_s:.0f} s"
    return None if pull.returncode == 0 else (pull.stderr.strip().splitlines() or [model])[-1]


def python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def run_within(command: Sequence[str], limit_s: float) -> int | None:
    """Its exit code; None where it was ended, with whatever it had started in its group."""
    process = subprocess.Popen(command, process_group=0)
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def told(part: str, code: int | None) -> bool:
    """Whether it ended well."""
    said = "not done in its share of the time" if code is None else f"exit code {code}"
    print(f"{part}: {'done' if code == 0 else said}", flush=True)
    return code == 0


if __name__ == "__main__":
    run_program(run_all)
