"""One command for a CUDA device: whose time is whose, and what is kept of the tests."""

import json
import sys
import time

import pytest
from baton_loadtest.gpu_all import TimeShares, missing, run_within
from baton_loadtest.gpu_parity import parity_json, parity_report
from support.hand_clock import HandClock

JUNIT = """<testsuites><testsuite name="pytest" time="12.5">
<testcase name="test_a"/>
<testcase name="test_b"><failure message="no">...</failure></testcase>
<testcase name="test_c"><error message="no">...</error></testcase>
<testcase name="test_d"><skipped message="no">...</skipped></testcase>
</testsuite></testsuites>"""


def test_a_part_that_ends_early_leaves_its_time_to_the_others() -> None:
    clock = HandClock()
    shares = TimeShares(600.0, 3, clock)
    assert shares.next_s() == 200.0
    clock.now_s += 100.0
    assert shares.next_s() == 250.0
    clock.now_s += 10.0
    assert shares.next_s() == 490.0


def test_when_the_time_is_over_nothing_is_left() -> None:
    clock = HandClock()
    shares = TimeShares(60.0, 2, clock)
    clock.now_s += 61.0
    assert shares.next_s() == 0.0


def test_what_runs_past_its_time_is_ended() -> None:
    sleeper = (sys.executable, "-c", "import time; time.sleep(60)")
    began_s = time.monotonic()
    assert run_within(sleeper, 0.1) is None
    assert time.monotonic() - began_s < 30


@pytest.mark.parametrize("code", [0, 3])
def test_what_ends_by_itself_says_how(code: int) -> None:
    assert run_within((sys.executable, "-c", f"raise SystemExit({code})"), 60.0) == code


def test_a_model_that_is_nowhere_is_missing_and_the_line_says_why() -> None:
    reason = missing("file:///no-such-model", 60.0)
    assert reason is not None
    assert "no-such-model: neither a .gguf file nor" in reason


def test_the_tests_are_kept_as_counts_with_the_names_of_those_that_failed() -> None:
    report = parity_report(JUNIT, machine="a machine", commit="0a1b2c3")
    assert json.loads(parity_json(report)) == {
        "machine": "a machine",
        "commit": "0a1b2c3",
        "passed": 1,
        "skipped": 1,
        "failed": ["test_b", "test_c"],
        "seconds": 12.5,
    }
