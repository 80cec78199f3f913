"""The boards: committed as generated, complete in what a reader needs, and right in what they ask.

The rules are those of Grafana's dashboard linter, which cannot be had here.
"""

from pathlib import Path
from typing import Any

import pytest
from baton_loadtest.observability.dashboards import FOLDER, dashboard_files
from baton_loadtest.observability.metrics_page import all_specs
from support.boards import PanelQuery, committed_boards, panel_queries, panels
from support.promql_checks import problems_of

ROOT = Path(__file__).resolve().parents[2]
BOARDS = committed_boards()
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GRID_COLUMNS = 24

# What Grafana would put in; the checks only need something that parses.
VALUES = {
    "namespace": "ns",
    "service": "svc",
    "datasource": "prometheus",
    "__rate_interval": "5m",
    "__range": "1h",
}


@pytest.mark.parametrize("path", sorted(dashboard_files()), ids=str)
def test_the_committed_board_is_the_generated_one(path: Path) -> None:
    assert (ROOT / path).read_text() == dashboard_files()[path], "run `make dashboards`"


def test_no_other_board_is_committed() -> None:
    assert {f"{FOLDER}/{name}" for name in BOARDS} == {str(path) for path in dashboard_files()}


def test_boards_have_addresses_of_their_own() -> None:
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_board_cannot_be_edited_in_place_and_says_what_it_is(board: dict[str, Any]) -> None:
    assert board["editable"] is False
    assert board["description"]
    assert "baton" in board["tags"]
    assert "id" not in board  # of one Grafana's database


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_the_reader_chooses_datasource_namespace_and_service(board: dict[str, Any]) -> None:
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert list(variables) == ["datasource", "namespace", "service"]
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    for name in ("namespace", "service"):
        assert variables[name]["datasource"] == DATASOURCE
        assert variables[name]["refresh"] == 2  # when the time range changes
        assert variables[name]["includeAll"]
        assert variables[name]["query"].startswith("label_values(baton_build_info")


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_panel_has_title_words_unit_and_queries_against_the_chosen_datasource(
    board: dict[str, Any],
) -> None:
    shown = list(panels(board))
    assert shown
    for panel in shown:
        assert panel["title"], panel
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == DATASOURCE, panel["title"]
        assert panel["targets"], panel["title"]
        assert all(target["datasource"] == DATASOURCE for target in panel["targets"])
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references), panel["title"]
    titles = [panel["title"] for panel in shown]
    assert len(set(titles)) == len(titles)
    assert len({panel["id"] for panel in shown}) == len(shown)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_panels_lie_beside_each_other_not_on_top(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= GRID_COLUMNS, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("query", panel_queries(), ids=str)
def test_a_query_asks_for_registered_metrics_in_the_right_way(query: PanelQuery) -> None:
    assert problems_of(query.filled(VALUES), all_specs()) == []


@pytest.mark.parametrize("query", panel_queries(), ids=str)
def test_a_rate_follows_the_zoom_of_the_reader(query: PanelQuery) -> None:
    windows = [part.split("]")[0] for part in query.expr.split("[")[1:]]
    fixed = {"1h"} if query.board == "operator.json" else set()  # changes are rare
    assert set(windows) <= {"$__rate_interval", "$__range"} | fixed
    assert ("$__range" in windows) <= query.instant


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("baton_nonsense", "not in the registry"),
        ("rate(baton_draining[5m])", "gauge"),
        ("sum(vllm:prompt_tokens_total)", "counter"),
        ("vllm:time_to_first_token_seconds", "ask for its buckets"),
        ("rate(vllm:time_to_first_token_seconds_sum[5m]) +", "no PromQL"),
        ("histogram_quantile(0.9, rate(baton_handoff_seconds_bucket[5m]))", "sum by (le"),
        ("histogram_quantile(0.9, sum(rate(baton_handoff_seconds_bucket[5m])))", "sum by (le"),
        ("avg(baton_handoff_seconds_sum) / avg(baton_handoff_seconds_count)", "rate"),
        ("1 + 1", "no metric"),
    ],
)
def test_a_wrong_query_would_be_noticed(query: str, problem: str) -> None:
    assert any(problem in found for found in problems_of(query, all_specs()))
