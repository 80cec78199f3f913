"""The tests of `make gpu` as parts of it: run, kept as counts, and looked into where they fail.

Knows pytest's command line and what it says of itself; knows no test.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from baton_loadtest.gpu_outcomes import OUTCOMES_FILE
from baton_loadtest.gpu_parity import ParityReport, parity_json, parity_report
from baton_loadtest.gpu_parts import Part, python, run_within

TESTS = {
    Part.PARITY: "tests/gpu/test_gpu_parity.py",
    Part.WORKERS: "tests/gpu/test_gpu_workers.py",
}

STACKS_AFTER_S = 45
"""A test that has not ended by then hangs: every thread says where it stands, and goes on."""

DIAGNOSIS_S = 40.0
"""For everything that is tried on tests that failed."""

ONE_BY_ONE = {"CUDA_LAUNCH_BLOCKING": "1"}
"""An error of a kernel then shows at its own launch, not at some later call."""

SANITIZER = "compute-sanitizer"
ERRORS_SHOWN = 20
"""The first few bad accesses name the kernel; thousands more follow from them."""


@dataclass(frozen=True, slots=True)
class EndedTests:
    code: int | None  # of pytest; None where it was ended from outside
    report: ParityReport


def run_tests(tests: str, limit_s: float, kept: Path, *, machine: str, commit: str) -> EndedTests:
    """Counts of what ran are `kept`, however it ended."""
    with TemporaryDirectory(prefix="baton-tests-") as name:
        outcomes = Path(name) / "outcomes"
        outcomes.touch()
        command = _pytest(tests, "-p", "baton_loadtest.gpu_outcomes")
        code = run_within(command, limit_s, setting={OUTCOMES_FILE: str(outcomes)})
        report = parity_report(outcomes.read_text(), machine=machine, commit=commit)
    kept.write_text(parity_json(report))
    print(f"{_summary(report)}; written to {kept}", flush=True)
    return EndedTests(code, report)


def diagnose(failed: Sequence[str], limit_s: float) -> None:
    """Each once more in a process that has not failed yet, until one fails there; then the first
    under the device's own checker of memory, where the machine has one."""
    half_s = min(limit_s, DIAGNOSIS_S) / 2
    print(f"diagnosis: {len(failed)} failed, once more with {ONE_BY_ONE}", flush=True)
    run_within(_pytest("-x", *failed), half_s, setting=ONE_BY_ONE)
    checker = shutil.which(SANITIZER)
    if checker is None:
        print(f"diagnosis: no {SANITIZER} on PATH", flush=True)
        return
    print(f"diagnosis: {failed[0]} under {SANITIZER}", flush=True)
    run_within((checker, "--print-limit", str(ERRORS_SHOWN), *_pytest(failed[0])), half_s)


def _pytest(*arguments: str) -> tuple[str, ...]:
    # nothing is captured: with a test that is killed, all that its workers said would be lost
    says = ("-v", "-s", "--tb=short", "-o", f"faulthandler_timeout={STACKS_AFTER_S}")
    return python("pytest", *says, *arguments)


def _summary(report: ParityReport) -> str:
    counts = f"{report.passed} passed, {len(report.failed)} failed, {report.skipped} skipped"
    if report.not_run:
        counts += f", {report.not_run} not run to their end"
    return f"{counts}, ended in {report.ended_in}" if report.ended_in else counts
