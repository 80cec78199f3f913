"""How the tests on a CUDA device ended, as counts that are kept beside the figures.

Pure: the lines of `gpu_outcomes` in, a report and JSON out. Knows no test.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class ParityReport:
    machine: str
    commit: str
    collected: int  # tests; those that came to no end are in none of the counts below
    passed: int
    skipped: int
    failed: Sequence[str]  # names of tests, as pytest takes them
    seconds: float
    ended_in: str | None = None  # the test that ran when all were ended from outside

    @property
    def not_run(self) -> int:
        return max(0, self.collected - self.passed - self.skipped - len(self.failed))


def parity_report(outcomes: str, *, machine: str, commit: str) -> ParityReport:
    """Raises JSONDecodeError, KeyError for other lines."""
    lines = [json.loads(line) for line in outcomes.splitlines()]
    ends: dict[str, set[str]] = {}  # by test, what its phases came to
    under_way: str | None = None
    for line in lines:
        if "test" not in line:
            continue
        ends.setdefault(line["test"], set()).add(line["outcome"])
        if line["when"] == "start":
            under_way = line["test"]
        elif line["when"] == "teardown":
            under_way = None
    failed = [test for test, found in ends.items() if "failed" in found]
    others = [(test, found) for test, found in ends.items() if test not in failed]
    return ParityReport(
        machine=machine,
        commit=commit,
        collected=sum(line.get("collected", 0) for line in lines),
        passed=sum("skipped" not in found for test, found in others if test != under_way),
        skipped=sum("skipped" in found for _, found in others),
        failed=failed,
        seconds=sum(line.get("seconds", 0.0) for line in lines),
        ended_in=under_way,
    )


def parity_json(report: ParityReport) -> str:
    return json.dumps(asdict(report), indent=2) + "\n"


def read_parity_json(text: str) -> ParityReport:
    """What `parity_json` wrote. Raises msgspec.DecodeError, ValidationError."""
    return msgspec.json.decode(text, type=ParityReport)
