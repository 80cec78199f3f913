"""What the client says becomes numbers, numbers become ratios, and failures stay visible."""

import json
from pathlib import Path

import pytest
from baton.common.errors import Unavailable
from baton_loadtest.peers.bench import Cell
from baton_loadtest.peers.client import Load, Measurement, measurement, read_result
from baton_loadtest.peers.contestant import Contestant
from baton_loadtest.peers.process import Command
from baton_loadtest.peers.ranking import PeerRow, ranked
from baton_loadtest.peers.surroundings import commit, telling
from baton_loadtest.peers.table import COLUMNS, Comparison, as_json, markdown, problems, table

LOAD = Load(concurrency=8, prompts=24, seed=1)
SAID = {
    "completed": 21,
    "failed": 3,
    "output_throughput": 217.5,
    "mean_ttft_ms": 1350.0,
    "mean_itl_ms": 25.0,
    "p99_itl_ms": 80.0,
    "itls": [[0.1, 0.2]] * 24,
    "generated_texts": ["words"] * 24,
    "errors": ["", "", "Traceback\nConnection reset", "Traceback\nConnection reset"],
}


def test_the_clients_result_becomes_numbers_in_seconds(tmp_path: Path) -> None:
    (tmp_path / "result").write_text(json.dumps(SAID))
    found = measurement(read_result(tmp_path / "result"), LOAD)
    assert found == Measurement(217.5, 1.35, 0.025, 0.08, completed=21, failed=3)


def test_what_is_kept_has_every_error_once_and_no_list_per_token(tmp_path: Path) -> None:
    (tmp_path / "result").write_text(json.dumps(SAID))
    kept = read_result(tmp_path / "result")
    assert kept["errors"] == ["Connection reset"]
    assert "itls" not in kept
    assert "generated_texts" not in kept


@pytest.mark.parametrize("text", ["", "[]", "{not json"])
def test_a_client_without_a_result_is_a_failure(tmp_path: Path, text: str) -> None:
    (tmp_path / "result").write_text(text)
    with pytest.raises(Unavailable, match="client"):
        read_result(tmp_path / "result")
    with pytest.raises(Unavailable, match="client left no result"):
        read_result(tmp_path / "missing")


def test_a_run_in_which_nothing_came_through_is_a_failure_with_its_reason() -> None:
    with pytest.raises(Unavailable, match=r"no request of 24 .*refused"):
        measurement({**SAID, "completed": 0, "errors": ["refused"]}, LOAD)


@pytest.mark.parametrize("value", [None, "fast"])
def test_a_result_without_a_number_is_a_failure(value: object) -> None:
    with pytest.raises(Unavailable, match="no number mean_itl_ms"):
        measurement({**SAID, "mean_itl_ms": value}, LOAD)


def contestant(name: str, ours: bool = False) -> Contestant:
    return Contestant(name, ours, lambda port: Command((name,), 1.0), "m", "/health")


FAST, FIRST, BATON = contestant("fast"), contestant("first"), contestant("baton", ours=True)


def cell(name: str, tokens_per_s: float, ttft_s: float, itl_s: float, round_: int = 1) -> Cell:
    found = Measurement(tokens_per_s, ttft_s, itl_s, 2 * itl_s, completed=24, failed=1)
    return Cell(name, round_, 8, found, None)


def lost(name: str, problem: str, round_: int = 1) -> Cell:
    return Cell(name, round_, 8, None, problem)


def row(cells: list[Cell], name: str) -> PeerRow:
    [found] = [one for one in ranked(cells, [FAST, FIRST, BATON]) if one.contestant == name]
    return found


def test_each_number_is_compared_with_the_peer_that_is_best_at_it() -> None:
    cells = [cell("fast", 200, 2.0, 0.02), cell("first", 100, 1.0, 0.04)]
    ratios = row([*cells, cell("baton", 500, 0.5, 0.01)], "baton").ratios
    assert ratios is not None
    assert (ratios.throughput, ratios.ttft, ratios.itl) == (2.5, 0.5, 0.5)


def test_baton_is_never_its_own_yardstick() -> None:
    cells = [cell("fast", 200, 2.0, 0.02), cell("baton", 500, 0.5, 0.01)]
    best = row(cells, "fast").ratios
    assert best is not None
    assert (best.throughput, best.ttft, best.itl) == (1.0, 1.0, 1.0)


def test_a_failed_peer_is_no_yardstick_and_without_peers_there_is_none() -> None:
    alone = [lost("fast", "died"), lost("first", "died"), cell("baton", 500, 0.5, 0.01)]
    assert row(alone, "baton").ratios is None
    one_left = [lost("fast", "died"), cell("first", 100, 1.0, 0.04), cell("baton", 500, 0.5, 0.01)]
    ratios = row(one_left, "baton").ratios
    assert ratios is not None
    assert ratios.throughput == 5.0


def test_a_round_is_compared_with_its_own_peers_and_the_median_told() -> None:
    """On a machine of half the speed in round 2, a third as fast in round 3."""
    cells = [
        *(cell("fast", speed, 1.0, 0.02, i) for i, speed in enumerate((300, 150, 100))),
        *(cell("baton", speed, 1.0, 0.02, i) for i, speed in enumerate((600, 300, 250))),
    ]
    found = row(cells, "baton")
    assert [one.throughput for one in found.round_ratios] == [2.0, 2.0, 2.5]
    assert found.ratios is not None
    assert found.ratios.throughput == 2.0


def test_a_round_without_a_peer_compares_nothing() -> None:
    cells = [lost("fast", "died"), cell("baton", 500, 1.0, 0.02)]
    later = [cell("fast", 100, 1.0, 0.02, 2), cell("baton", 300, 1.0, 0.02, 2)]
    assert [one.throughput for one in row([*cells, *later], "baton").round_ratios] == [3.0]


def test_rounds_are_summed_up_by_their_median_and_their_failures_counted() -> None:
    rounds = [cell("fast", tokens, 1.0, 0.02, i) for i, tokens in enumerate((90, 300, 100))]
    found = row(rounds, "fast").typical
    assert found is not None
    assert (found.output_tokens_per_s, found.completed, found.failed) == (100, 72, 3)


def test_rows_go_by_concurrency_then_in_the_order_of_the_contestants() -> None:
    cells = [
        Cell(name, 1, concurrency, None, "died")
        for name in ("baton", "fast")
        for concurrency in (32, 1)
    ]
    rows = ranked(cells, [FAST, BATON])
    assert [(one.concurrency, one.contestant) for one in rows] == [
        *((1, "fast"), (1, "baton"), (32, "fast"), (32, "baton")),
    ]


def comparison(cells: list[Cell]) -> Comparison:
    return Comparison(
        machine="a CPU (avx2), 2 cores",
        model="m",
        baton_options=("--threads", "2"),
        rounds=1,
        quick=True,
        load_average=1.25,
        rows=ranked(cells, [FAST, BATON]),
    )


MIXED = comparison([lost("fast", "exit code 1: no memory"), cell("baton", 512.34, 0.5, 0.01)])


def test_markdown_has_a_cell_per_column_with_units_and_shows_failures() -> None:
    lines = [line for line in markdown(MIXED).splitlines() if line.startswith(("| fast", "| bat"))]
    fast, baton = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert baton == [
        *("baton", "8", "512.3", "-", "500 ms", "-", "10.0 ms", "-", "20.0 ms", "1 / 25"),
    ]
    assert (fast[2], fast[-1], len(fast)) == ("failed", "all", len(COLUMNS))
    assert "fast failed: exit code 1: no memory" in markdown(MIXED)
    assert "a CPU (avx2), 2 cores" in markdown(MIXED)
    assert "load average before: 1.2; further options of Baton: --threads 2" in markdown(MIXED)


def test_a_round_that_failed_is_told_beside_those_that_did_not() -> None:
    found = comparison([cell("fast", 200, 2.0, 0.02), lost("fast", "died", 2)])
    [line] = [line for line in markdown(found).splitlines() if line.startswith("| fast")]
    assert "| 1 / 25, 1 rounds |" in line


def test_the_same_problem_is_told_once() -> None:
    cells = [Cell("fast", 1, concurrency, None, "died") for concurrency in (1, 8, 32)]
    assert problems(comparison(cells)) == ("fast failed: died",)


def test_the_terminal_shows_the_same_rows() -> None:
    drawn = table(MIXED)
    assert [column.header for column in drawn.columns] == list(COLUMNS)
    assert drawn.row_count == 2


def test_json_keeps_rounds_medians_and_ratios_unrounded() -> None:
    said = json.loads(
        as_json(comparison([cell("fast", 200, 2, 0.02), cell("baton", 500, 1, 0.01)]))
    )
    [baton] = [one for one in said["rows"] if one["contestant"] == "baton"]
    assert baton["ours"] is True
    assert baton["typical"] == baton["rounds"][0]
    assert baton["ratios"] == {"throughput": 2.5, "ttft": 0.5, "itl": 0.5}
    assert said["baton_options"] == ["--threads", "2"]


def test_the_machine_line_tells_only_features_that_matter() -> None:
    assert telling(("fpu", "avx512_vnni", "avx2")) == "avx2 avx512_vnni"
    assert telling(()) == "none known"


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path) -> None:
    assert commit(tmp_path) == "no commit"
