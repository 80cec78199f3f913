"""The tables of a run on a GPU: a fault leaves what was found before it, and the other tables."""

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from baton.common.errors import ConfigError, EngineFailure
from baton_loadtest.gpu_report import EndToEndFound, GpuTable, read_gpu_json
from baton_loadtest.gpu_result import GpuResult, of_one_case
from baton_loadtest.gpu_tables import Fill, fill_each
from rich.console import Console
from support.device_results import alone, whole


@pytest.fixture
def result(tmp_path: Path) -> GpuResult:
    return GpuResult(replace(alone(), figures=()), tmp_path / "made" / "gpu.json")


@pytest.fixture
def console() -> Console:
    return Console(file=StringIO(), width=160)


def kept(result: GpuResult) -> dict[str, int]:
    """How much of each table the file has."""
    report = read_gpu_json(result.path.read_text())
    through = report.end_to_end
    return {
        "figures": len(report.figures),
        "kernels": len(report.kernels),
        "end to end": len(through.tokens_per_s) if through else 0,
    }


def fills(result: GpuResult, broken: GpuTable, error: BaseException) -> dict[GpuTable, Fill]:
    """Every table's, of which one breaks after its first figure."""
    found = whole()
    assert found.end_to_end is not None
    rates = found.end_to_end.tokens_per_s
    figures: dict[GpuTable, list[Callable[[], None]]] = {
        GpuTable.ALONE: [lambda one=one: result.add_figure(one) for one in found.figures],  # type: ignore[misc]
        GpuTable.KERNELS: [lambda one=one: result.add_kernel(one) for one in found.kernels],  # type: ignore[misc]
        GpuTable.END_TO_END: [
            lambda n=n: result.put_end_to_end(EndToEndFound(dict(list(rates.items())[:n])))  # type: ignore[misc]
            for n in range(1, len(rates) + 1)
        ],
    }

    def fill(table: GpuTable) -> None:
        for number, figure in enumerate(figures[table]):
            if number == 1 and table is broken:
                raise error
            figure()

    return {table: lambda table=table: fill(table) for table in GpuTable}  # type: ignore[misc]


@pytest.mark.parametrize("broken", list(GpuTable))
def test_a_table_that_fails_leaves_its_first_figures_and_the_others(
    broken: GpuTable, result: GpuResult, console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    error = EngineFailure("a step failed")
    error.__cause__ = RuntimeError("an illegal memory access")
    left: list[None] = []
    asked = fills(result, broken, error)
    assert not fill_each(asked, result, console, lambda: left.append(None))
    full = {"figures": 5, "kernels": 10, "end to end": 5}
    name = dict(zip(GpuTable, full, strict=True))[broken]
    assert kept(result) == full | {name: 1}
    assert result.report.failed == {broken.value: "EngineFailure: a step failed"}
    assert "RuntimeError: an illegal memory access" in capsys.readouterr().err
    assert len(left) == len(GpuTable)


def test_a_table_that_is_ended_from_outside_is_kept_as_far_as_it_came(
    result: GpuResult, console: Console
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fill_each(fills(result, GpuTable.ALONE, KeyboardInterrupt()), result, console, lambda: None)
    assert kept(result) == {"figures": 1, "kernels": 0, "end to end": 0}
    assert result.report.failed == {"alone": "ended from outside"}


def test_a_table_measured_again_forgets_why_it_failed_and_leaves_the_others_alone(
    result: GpuResult, console: Console
) -> None:
    all_of_it = fills(result, GpuTable.ALONE, EngineFailure("a step failed"))
    fill_each(all_of_it, result, console, lambda: None)
    assert kept(result)["figures"] == 1
    again = fills(result, GpuTable.KERNELS, EngineFailure("never reached"))
    assert fill_each({GpuTable.ALONE: again[GpuTable.ALONE]}, result, console, lambda: None)
    assert kept(result) == {"figures": 5, "kernels": 10, "end to end": 5}
    assert result.report.failed == {}


def test_one_goes_on_with_a_result_of_the_same_case_only() -> None:
    asked = replace(alone(), figures=())
    assert of_one_case(whole(), asked) == whole()
    with pytest.raises(ConfigError, match="another machine, commit or case"):
        of_one_case(replace(whole(), commit="other"), asked)
