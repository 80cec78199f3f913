"""The table, its Markdown twin and the JSON say the same."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from baton_loadtest.__main__ import save
from baton_loadtest.machine import cpu_model, machine_line, usable_cores
from baton_loadtest.report import COLUMNS, BenchReport, Row, as_json, markdown, table
from baton_loadtest.stats import Summary

SUMMARY = Summary(
    requests=8,
    output_tokens=1024,
    duration_s=20.48,
    output_tokens_per_s=50.0,
    ttft_mean_s=0.25,
    itl_p50_s=0.02,
    itl_p99_s=0.0456,
)
REPORT = BenchReport(
    machine="CPU, 2 cores, Linux",
    model="m",
    quantization="int8",
    prompt_tokens=256,
    output_tokens=128,
    rows=[Row("aggregated", 8, SUMMARY, limit_tokens_per_s=200.0)],
)


def test_markdown_has_one_cell_per_column_with_units() -> None:
    [last] = [line for line in markdown(REPORT).splitlines() if line.startswith("| aggr")]
    cells = [cell.strip() for cell in last.strip("|").split("|")]
    assert cells == ["aggregated", "8", "50.0", "250 ms", "20.0 ms", "45.6 ms", "200.0", "0.25"]
    assert len(cells) == len(COLUMNS)


def test_terminal_table_has_the_same_columns_and_names_the_machine() -> None:
    drawn = table(REPORT)
    assert [column.header for column in drawn.columns] == list(COLUMNS)
    assert drawn.row_count == 1
    assert "CPU, 2 cores" in str(drawn.caption)


def test_json_keeps_every_number_unrounded() -> None:
    said = json.loads(as_json(REPORT))
    assert said["machine"] == REPORT.machine
    assert said["rows"][0]["summary"]["itl_p99_s"] == 0.0456
    assert said["rows"][0]["limit_tokens_per_s"] == 200.0


def test_results_are_files_named_after_the_time(tmp_path: Path) -> None:
    path = save(REPORT, tmp_path / "new", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert path.name == "bench-20260102-030405.json"
    assert json.loads(path.read_text())["model"] == "m"
    assert path.with_suffix(".md").read_text() == markdown(REPORT) + "\n"


def test_machine_line_names_processor_and_cores() -> None:
    assert cpu_model()
    assert usable_cores() >= 1
    assert machine_line().startswith(cpu_model())


@pytest.mark.parametrize("limit", [25.0, 50.0])
def test_ratio_is_output_over_limit(limit: float) -> None:
    assert Row("a", 1, SUMMARY, limit).of_limit == pytest.approx(50.0 / limit)
