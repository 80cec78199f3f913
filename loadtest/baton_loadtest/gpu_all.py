"""`make gpu`: all there is to find out on a CUDA device, one after the other: that it computes what
transformers computes, how fast it is, what each scheme costs in answers.

Each part is a process of its own that writes its result as soon as it has one, and is ended when
its share of the time is over: a part that hangs takes nothing from those that follow. Needs as few
packages as `gpu_command`: also `python -m baton_loadtest.gpu_all`, from the repository's root.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated

import typer
from baton.cli.stack import DEFAULT_MODEL
from baton.common.clock import SystemClock
from baton.common.errors import BatonError

from baton_loadtest.gpu_command import RESULTS_DIR, require_device, run_program
from baton_loadtest.gpu_parts import Part, TimeShares, python, run_within
from baton_loadtest.gpu_report import GpuTable
from baton_loadtest.gpu_tests import DIAGNOSIS_S, TESTS, diagnose, run_tests
from baton_loadtest.machine import checkout_commit, device_line

WITHIN_S = 3_600.0
"""Far beyond what an unloaded device needs; a lent one says how long it may be held."""

LEAST_S = 10.0
"""In less a part only starts: the time is better kept."""

PULL_LIMIT_S = 20.0
"""A model is small, or pulled before: waiting for one is time of the device."""

NO_RETRIES = {"PIP_RETRIES": "0"}
"""A machine without a registry says so at once."""

TABLES = {
    Part.ALONE: GpuTable.ALONE,
    Part.KERNELS: GpuTable.KERNELS,
    Part.END_TO_END: GpuTable.END_TO_END,
}
"""One result for all of them, but a process each: after an error a device may answer no more."""


def run_all(
    model: Annotated[
        str, typer.Option(help="Whose quality is measured; skipped where it cannot be had.")
    ] = DEFAULT_MODEL,
    commit: Annotated[
        str | None, typer.Option(help="Of this code, where there is no repository to ask.")
    ] = None,
    within_s: Annotated[float, typer.Option(min=60.0, help="All parts together.")] = WITHIN_S,
    skip: Annotated[
        list[Part] | None, typer.Option(help="A part to leave out; may be given again.")
    ] = None,
    results_dir: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULTS_DIR,
) -> None:
    """Parity, speed, two workers, quality."""
    require_device()
    results_dir.mkdir(parents=True, exist_ok=True)
    parts = [part for part in Part if part not in (skip or ())]
    shares = TimeShares(within_s, parts, SystemClock())
    run = GpuRun(model, commit or checkout_commit(), results_dir, shares)
    ended = [run.measure(part) for part in parts]
    for one in ended:  # once more: of a long output the end is seen first
        print(one.line, flush=True)
    if not all(one.well for one in ended):
        raise BatonError("not everything was measured: see above")


@dataclass(frozen=True, slots=True)
class Ended:
    part: Part
    well: bool
    how: str

    @property
    def line(self) -> str:
        return f"{self.part.value}: {self.how}"


def ended_with(part: Part, code: int | None) -> Ended:
    """`code`: of its process; None where that was ended."""
    how = "not done in its share of the time" if code is None else f"exit code {code}"
    return Ended(part, code == 0, "done" if code == 0 else how)


class GpuRun:
    """One run of all parts, each asked for once, in the order of their shares."""

    def __init__(self, model: str, commit: str, results_dir: Path, shares: TimeShares) -> None:
        self._model, self._commit, self._shares = model, commit, shares
        self._results_dir, self._began = results_dir, f"{datetime.now(UTC):%Y%m%d-%H%M%S}"

    def measure(self, part: Part) -> Ended:
        limit_s = self._shares.next_s()
        print(f"{part.value}: {limit_s:.0f} s at most", flush=True)
        if limit_s < LEAST_S:
            ended = Ended(part, False, "not begun: no time is left")
        elif part in TESTS:
            ended = self._tests(part, limit_s)
        elif part in TABLES:
            ended = self._table(part, limit_s)
        else:
            ended = self._quality(limit_s)
        print(ended.line, flush=True)
        return ended

    def _tests(self, part: Part, limit_s: float) -> Ended:
        kept = self._result(part.value)
        found = run_tests(TESTS[part], limit_s, kept, machine=device_line(), commit=self._commit)
        if part is Part.PARITY and found.report.failed:
            diagnose(found.report.failed, min(DIAGNOSIS_S, self._shares.left_s))
        return ended_with(part, found.code)

    def _table(self, part: Part, limit_s: float) -> Ended:
        others = [("--skip", table.value) for table in GpuTable if table is not TABLES[part]]
        onto = ("--onto", str(self._result("gpu")), "--commit", self._commit)
        command = python("baton_loadtest.gpu_command", *onto, *chain.from_iterable(others))
        return ended_with(part, run_within(command, limit_s))

    def _quality(self, limit_s: float) -> Ended:
        problem = missing(self._model, min(limit_s, PULL_LIMIT_S))
        if problem is not None:
            return Ended(Part.QUALITY, True, f"skipped: {problem}")
        kept = ("--results-dir", str(self._results_dir), "--commit", self._commit)
        command = ("quality", "--device", "cuda", "--model", self._model, *kept)
        return ended_with(Part.QUALITY, run_within(python("baton_loadtest", *command), limit_s))

    def _result(self, kind: str) -> Path:
        return self._results_dir / f"{kind}-{self._began}.json"


def missing(model: str, limit_s: float) -> str | None:
    """Why the model's files are not here and cannot be fetched; None where they are here now."""
    pull = python("baton.cli", "model", "pull", model)
    with TemporaryFile() as said:
        code = run_within(pull, limit_s, setting=NO_RETRIES, said=said)
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
    if code is None:
        return f"{model} was not here after {limit_s:.0f} s"
    return None if code == 0 else (lines or [model])[-1]


if __name__ == "__main__":
    run_program(run_all)
