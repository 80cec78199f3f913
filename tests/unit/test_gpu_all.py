"""One command for a CUDA device: whose time is whose, and how a part ends."""

import signal
import sys
import time
from pathlib import Path

import pytest
from baton_loadtest.gpu_all import GpuRun, ended_with, missing
from baton_loadtest.gpu_parts import SLACK, TYPICAL_S, Part, TimeShares, grace_s, run_within
from support.hand_clock import HandClock

ALL = list(Part)
LONG_S = 3_600.0


def test_in_an_hour_every_part_has_the_same_multiple_of_its_estimate() -> None:
    clock = HandClock()
    shares = TimeShares(LONG_S, ALL, clock)
    found = []
    for _ in ALL:
        found.append(shares.next_s())
        clock.now_s += found[-1]
    assert sum(found) == pytest.approx(LONG_S)
    assert [one / TYPICAL_S[part] for one, part in zip(found, ALL, strict=True)] == pytest.approx(
        [LONG_S / sum(TYPICAL_S.values())] * len(ALL)
    )


def test_a_part_that_ends_early_leaves_its_time_to_the_others() -> None:
    clock = HandClock()
    shares = TimeShares(LONG_S, [Part.ALONE, Part.ALONE, Part.ALONE], clock)
    assert shares.next_s() == 1_200.0
    clock.now_s += 600.0
    assert shares.next_s() == 1_500.0
    clock.now_s += 100.0
    assert shares.next_s() == 2_900.0


@pytest.mark.parametrize(("within_s", "whole"), [(330.0, 4), (570.0, 6)])
def test_of_a_short_time_the_first_parts_have_what_they_need(within_s: float, whole: int) -> None:
    """A lent machine's: each part takes what it is estimated to take."""
    clock = HandClock()
    shares = TimeShares(within_s, ALL, clock)
    fits = []
    for part in ALL:
        limit_s = shares.next_s()
        assert limit_s <= shares.left_s
        fits.append(limit_s - grace_s(limit_s) >= TYPICAL_S[part])
        clock.now_s += min(limit_s, TYPICAL_S[part])
    assert fits == [True] * whole + [False] * (len(ALL) - whole)


def test_a_first_part_that_hangs_leaves_the_tables_what_they_need() -> None:
    clock = HandClock()
    shares = TimeShares(330.0, ALL, clock)
    limit_s = shares.next_s()
    assert limit_s == SLACK * TYPICAL_S[Part.PARITY]
    clock.now_s += limit_s
    for part in (Part.ALONE, Part.KERNELS, Part.END_TO_END):
        assert shares.next_s() >= TYPICAL_S[part]
        clock.now_s += TYPICAL_S[part]


def test_when_the_time_is_over_no_part_begins(tmp_path: Path) -> None:
    clock = HandClock()
    shares = TimeShares(60.0, [Part.PARITY], clock)
    clock.now_s += 55.0
    ended = GpuRun("file:///no-such-model", "0a1b2c3", tmp_path, shares).measure(Part.PARITY)
    assert (ended.well, ended.line) == (False, "parity: not begun: no time is left")
    assert list(tmp_path.iterdir()) == []


def test_what_runs_past_its_time_is_ended() -> None:
    sleeper = (sys.executable, "-c", "import time; time.sleep(60)")
    began_s = time.monotonic()
    assert run_within(sleeper, 0.1) is None
    assert time.monotonic() - began_s < 30


RUNNING = "import signal, sys, time; print('begun', flush=True); "


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (RUNNING + "time.sleep(60)", "KeyboardInterrupt"),
        (RUNNING + "signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)", "Aborted"),
    ],
    ids=["interrupted", "deaf"],
)
def test_before_it_is_ended_it_says_what_it_knows(program: str, says: str, tmp_path: Path) -> None:
    with (tmp_path / "said").open("w+b") as said:
        assert run_within((sys.executable, "-c", program), 4.0, said=said) is None
        said.seek(0)
        lines = said.read().decode()
    assert lines.startswith("begun")
    assert says in lines
    assert 'File "<string>", line 1' in lines


def test_an_interrupt_reaches_what_was_started_where_interrupts_are_ignored() -> None:
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell
    try:
        asks = "import signal; raise SystemExit(signal.getsignal(2) is signal.SIG_IGN)"
        assert run_within((sys.executable, "-c", asks), 60.0) == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("code", [0, 3])
def test_what_ends_by_itself_says_how(code: int) -> None:
    assert run_within((sys.executable, "-c", f"raise SystemExit({code})"), 60.0) == code


@pytest.mark.parametrize(
    ("code", "well", "line"),
    [
        (0, True, "workers: done"),
        (1, False, "workers: exit code 1"),
        (None, False, "workers: not done in its share of the time"),
    ],
)
def test_a_part_is_done_or_says_why_not(code: int | None, well: bool, line: str) -> None:
    ended = ended_with(Part.WORKERS, code)
    assert (ended.well, ended.line) == (well, line)


def test_a_model_that_is_nowhere_is_missing_and_the_line_says_why() -> None:
    reason = missing("file:///no-such-model", 60.0)
    assert reason is not None
    assert "no-such-model: neither a .gguf file nor" in reason


def test_a_model_that_takes_too_long_is_missing() -> None:
    assert missing("file:///no-such-model", 0.1) == "file:///no-such-model was not here after 0 s"
