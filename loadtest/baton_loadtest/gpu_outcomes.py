"""A pytest plugin of `make gpu`: what becomes of each test, a line as soon as it is known, so that
of tests that are killed is kept what they had found.

Loaded by its name (`-p`); where the lines go comes in the environment. Knows no test.
"""

import json
import os
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

OUTCOMES_FILE = "BATON_GPU_OUTCOMES"

FRAMES_SHOWN = 6
"""Of an interrupted test, the innermost: before them are only pytest's own."""


def pytest_collection_finish(session: "pytest.Session") -> None:
    _tell({"collected": len(session.items)})


def pytest_collectreport(report: "pytest.CollectReport") -> None:
    if report.failed:
        _tell({"test": report.nodeid, "when": "collect", "outcome": report.outcome})


def pytest_runtest_logstart(nodeid: str) -> None:
    _tell({"test": nodeid, "when": "start", "outcome": "", "seconds": 0.0})


def pytest_runtest_logreport(report: "pytest.TestReport") -> None:
    found = {"test": report.nodeid, "when": report.when, "outcome": report.outcome}
    _tell(found | {"seconds": report.duration})


def pytest_keyboard_interrupt(excinfo: "pytest.ExceptionInfo[BaseException]") -> None:
    """Where the test stood, which pytest itself says in one line only."""
    traceback.print_exception(excinfo.value, limit=-FRAMES_SHOWN)


def _tell(found: Mapping[str, object]) -> None:
    with open(os.environ[OUTCOMES_FILE], "a") as lines:
        lines.write(json.dumps(found) + "\n")
