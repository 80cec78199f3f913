"""docs/operations.md speaks of what exists: every reason, every board, every link to itself."""

import re
from pathlib import Path

from baton_loadtest.observability.dashboards import boards
from baton_operator.scaling import Reason

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/operations.md").read_text()

_REASON = re.compile(r'(?:Finding\(_\w+|Trouble\(), ?"([A-Z]\w+)"|Trouble\("([A-Z]\w+)"')


def condition_reasons() -> set[str]:
    """As status.py and observe.py give them."""
    found: set[str] = set()
    for name in ("status.py", "observe.py"):
        source = (ROOT / "operator/baton_operator" / name).read_text()
        found.update(first or second for first, second in _REASON.findall(source))
    return found


def test_every_reason_of_a_condition_is_explained() -> None:
    reasons = condition_reasons()
    assert {"Unschedulable", "ScaledToZero", "InvalidSpec"} <= reasons
    assert {reason for reason in reasons if f"`{reason}`" not in GUIDE} == set()


def test_every_reason_of_a_scaling_decision_is_explained() -> None:
    assert {reason.value for reason in Reason if f"`{reason.value}`" not in GUIDE} == set()


def test_no_reason_is_explained_that_does_not_exist() -> None:
    known = condition_reasons() | {reason.value for reason in Reason}
    rows = [line.split("|")[1] for line in GUIDE.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`([A-Z]\w+)`", " ".join(rows))) <= known


def test_every_board_is_in_the_table() -> None:
    titles = [board.title.removeprefix("Baton / ") for board in boards()]
    assert [title for title in titles if f"| {title} |" not in GUIDE] == []


def test_panels_that_the_guide_names_exist() -> None:
    panels = {
        panel.build().title for board in boards() for row in board.rows for panel in row.panels
    }
    named = {name.split(":")[0] for name in re.findall(r"(?<!\*)\*([A-Z][^*\n]+)\*(?!\*)", GUIDE)}
    assert named - {"Fast", "Slow"} - panels == set()


def test_links_to_a_place_in_the_guide_arrive() -> None:
    headings = re.findall(r"^#+ (.+)$", GUIDE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\(#([\w-]+)\)", GUIDE)) <= anchors
    for target in re.findall(r"\]\(([^#)]+)\)", GUIDE):
        assert (ROOT / "docs" / target).exists(), target
