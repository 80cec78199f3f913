"""What a run on a GPU found, as a table for people and as JSON for machines.

Pure: returns, writes nothing. Every figure stands beside what the device itself would allow.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from baton_loadtest.gpu_roofline import DeviceRates


@dataclass(frozen=True, slots=True)
class GpuFigure:
    """Tokens per second of one kind of work, and of the roofline."""

    work: str  # such as "decode, 8 requests"
    tokens_per_s: float
    roofline_tokens_per_s: float

    @property
    def of_roofline(self) -> float:
        return self.tokens_per_s / self.roofline_tokens_per_s


@dataclass(frozen=True, slots=True)
class GpuReport:
    machine: str
    commit: str
    shape: str
    quantization: str
    kv_dtype: str
    context_tokens: int
    rates: DeviceRates
    figures: Sequence[GpuFigure]

    @property
    def title(self) -> str:
        return (
            f"{self.shape}, quantization {self.quantization}, {self.kv_dtype} KV,"
            f" {self.context_tokens} tokens of context, random weights"
        )

    @property
    def rates_line(self) -> str:
        return (
            f"copies {self.rates.copy_bytes_per_s / 1e12:.2f} TB/s, multiplies bf16 at"
            f" {self.rates.matrix_flop_per_s / 1e12:.0f} TFLOP/s, both measured in this run"
        )


def gpu_table(report: GpuReport) -> Table:
    table = Table(
        title=report.title,
        caption=f"{report.machine}\n{report.rates_line}\ncommit {report.commit}",
        title_justify="left",
    )
    for name in ("work", "tok/s", "roofline tok/s", "of roofline"):
        table.add_column(name, justify="left" if name == "work" else "right")
    for figure in report.figures:
        table.add_row(
            figure.work,
            f"{figure.tokens_per_s:,.0f}",
            f"{figure.roofline_tokens_per_s:,.0f}",
            f"{figure.of_roofline:.0%}",
        )
    return table


def gpu_json(report: GpuReport) -> str:
    found = asdict(report)
    for row, figure in zip(found["figures"], report.figures, strict=True):
        row["of_roofline"] = round(figure.of_roofline, 4)
    return json.dumps(found, indent=2) + "\n"
