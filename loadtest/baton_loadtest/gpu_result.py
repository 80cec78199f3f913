"""The result of a run on a GPU while it grows: written anew with every figure, so that whatever
ends the run leaves what it had found.

Knows one file and what it holds; knows no device.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from baton.common.errors import ConfigError

from baton_loadtest.gpu_report import (
    EndToEndFound,
    GpuFigure,
    GpuReport,
    GpuTable,
    KernelFigure,
    gpu_json,
)

EMPTY: Mapping[GpuTable, Mapping[str, object]] = {
    GpuTable.ALONE: {"figures": ()},
    GpuTable.KERNELS: {"kernels": ()},
    GpuTable.END_TO_END: {"end_to_end": None},
}


class GpuResult:
    def __init__(self, report: GpuReport, path: Path) -> None:
        self.report, self.path = report, path

    def begin(self, table: GpuTable) -> None:
        """Measured anew: what an earlier run found of it, or failed with, is another's."""
        failed = {name: why for name, why in self.report.failed.items() if name != table.value}
        self._grow(failed=failed, **EMPTY[table])

    def add_figure(self, found: GpuFigure) -> None:
        self._grow(figures=(*self.report.figures, found))

    def add_kernel(self, found: KernelFigure) -> None:
        self._grow(kernels=(*self.report.kernels, found))

    def put_end_to_end(self, found: EndToEndFound) -> None:
        self._grow(end_to_end=found)

    def fail(self, table: GpuTable, why: str) -> None:
        self._grow(failed={**self.report.failed, table.value: why})

    def _grow(self, **fields: object) -> None:
        self.report = replace(self.report, **fields)  # type: ignore[arg-type]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = self.path.with_suffix(".part")
        whole.write_text(gpu_json(self.report))
        whole.replace(self.path)  # who is killed while writing leaves the one before


def of_one_case(kept: GpuReport, asked: GpuReport) -> GpuReport:
    """`kept`, where it is of the same case as what is asked for. Raises ConfigError."""
    cases = [
        replace(one, rates=asked.rates, figures=(), kernels=(), end_to_end=None, failed={})
        for one in (kept, asked)
    ]
    if cases[0] != cases[1]:
        raise ConfigError(["the result to go on with is of another machine, commit or case"])
    return kept
