"""The tests that `make gpu` runs: whatever ends them, what they had found is kept."""

import json
from pathlib import Path

import pytest
from baton_loadtest.gpu_parity import parity_json, parity_report, read_parity_json
from baton_loadtest.gpu_tests import EndedTests, diagnose, run_tests

WELL_AND_BADLY = """
import pytest

def test_well():
    pass

def test_badly():
    raise ValueError("from outside") from KeyError("from inside")

@pytest.mark.skip
def test_elsewhere():
    pass
"""
SLEEPS = """
def test_long():
    import time
    time.sleep(60)

def test_after():
    pass
"""
DEAF = """
def test_deaf():
    import signal, time
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as one that waits for the device
    time.sleep(60)
"""


def ran(folder: Path, source: str, limit_s: float) -> EndedTests:
    tests = folder / "test_made_up.py"
    tests.write_text(source)
    ended = run_tests(
        str(tests), limit_s, folder / "kept.json", machine="a machine", commit="0a1b2c3"
    )
    assert read_parity_json((folder / "kept.json").read_text()) == ended.report
    return ended


def names(tests: list[str]) -> list[str]:
    return [test.rpartition("::")[2] for test in tests]


def test_counts_are_kept_with_the_names_of_those_that_failed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = ran(tmp_path, WELL_AND_BADLY, 60.0)
    report = ended.report
    assert ended.code == 1
    assert (report.collected, report.passed, report.skipped, report.not_run) == (3, 1, 1, 0)
    assert names(list(report.failed)) == ["test_badly"]
    assert "KeyError: 'from inside'" in capfd.readouterr().out


def test_of_tests_that_are_interrupted_is_told_what_failed_before(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = ran(tmp_path, WELL_AND_BADLY + SLEEPS, 12.0)
    report = ended.report
    assert ended.code is None
    assert (report.passed, len(report.failed), report.not_run) == (1, 1, 2)
    assert names([report.ended_in or ""]) == ["test_long"]
    said = capfd.readouterr().out
    assert "ValueError: from outside" in said
    assert "2 not run to their end, ended in " in said


def test_of_tests_that_hear_no_interrupt_is_told_where_they_stood(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = ran(tmp_path, WELL_AND_BADLY + DEAF, 12.0).report
    assert (report.passed, len(report.failed), report.not_run) == (1, 1, 1)
    assert "in test_deaf" in capfd.readouterr().err


def test_tests_that_cannot_be_read_have_failed(tmp_path: Path) -> None:
    ended = ran(tmp_path, "import no_such_module", 60.0)
    assert ended.code not in (0, None)
    assert (ended.report.passed, len(ended.report.failed)) == (0, 1)


def test_a_test_whose_end_fails_has_not_passed() -> None:
    phases = [("setup", "passed"), ("call", "passed"), ("teardown", "failed")]
    lines = [{"test": "t", "when": when, "outcome": end} for when, end in phases]
    text = "\n".join(map(json.dumps, [{"collected": 1}, *lines]))
    report = parity_report(text, machine="a machine", commit="0a1b2c3")
    assert (report.passed, list(report.failed), report.not_run) == (0, ["t"], 0)
    assert json.loads(parity_json(report))["ended_in"] is None


def test_those_that_failed_run_once_more_one_kernel_after_the_other(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And under a checker of memory, where there is one."""
    tests = tmp_path / "test_made_up.py"
    tests.write_text(
        "import os\n"
        "def test_bad():\n    assert 'CUDA_LAUNCH_BLOCKING' not in os.environ, 'one by one'\n"
    )
    checker = tmp_path / "compute-sanitizer"
    checker.write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    checker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    diagnose([f"{tests}::test_bad"], 60.0)
    said = capfd.readouterr().out
    assert "AssertionError: one by one" in said
    assert "1 passed" in said
