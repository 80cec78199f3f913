"""How the tests on a CUDA device ended, as counts that are kept beside the figures.

Pure: pytest's own XML in, a report and JSON out. Knows no test.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from xml.etree import ElementTree

ENDS_BADLY = ("failure", "error")


@dataclass(frozen=True, slots=True)
class ParityReport:
    machine: str
    commit: str
    passed: int
    skipped: int
    failed: Sequence[str]  # names of tests
    seconds: float


def parity_report(junit_xml: str, *, machine: str, commit: str) -> ParityReport:
    """Raises ParseError for what is no XML."""
    root = ElementTree.fromstring(junit_xml)
    cases = list(root.iter("testcase"))
    failed = [
        case.get("name", "")
        for case in cases
        if any(case.find(way) is not None for way in ENDS_BADLY)
    ]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return ParityReport(
        machine=machine,
        commit=commit,
        passed=len(cases) - len(failed) - skipped,
        skipped=skipped,
        failed=failed,
        seconds=sum(float(suite.get("time", 0)) for suite in root.iter("testsuite")),
    )


def parity_json(report: ParityReport) -> str:
    return json.dumps(asdict(report), indent=2) + "\n"
