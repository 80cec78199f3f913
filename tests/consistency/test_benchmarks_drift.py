"""docs/benchmarks.md says what the kept results say, and links to files that are there."""

import re
from pathlib import Path

from baton_loadtest.benchmarks.kept import RESULTS, read_kept
from baton_loadtest.benchmarks.page import PAGE, benchmarks_page

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)]+)\)")


def test_the_page_is_the_generated_one() -> None:
    page = benchmarks_page(read_kept(ROOT / RESULTS))
    assert (ROOT / PAGE).read_text() == page, "run `make benchmarks-docs`"


def test_every_kept_result_can_be_read() -> None:
    kept = read_kept(ROOT / RESULTS)
    assert min(map(len, (kept.quality, kept.peers, kept.speculation, kept.costmodel))) > 1


def test_its_links_lead_somewhere() -> None:
    links = set(LINK.findall((ROOT / PAGE).read_text()))
    assert len(links) > 5
    assert [link for link in links if not (ROOT / PAGE.parent / link).is_file()] == []
