"""What a bench run found, as a table for people and as JSON for machines.

Pure: returns, writes nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from baton_loadtest.stats import Summary


@dataclass(frozen=True, slots=True)
class Row:
    """One topology at one concurrency."""

    topology: str
    concurrency: int
    summary: Summary
    limit_tokens_per_s: float  # of the linear layers alone, at this batch size

    @property
    def of_limit(self) -> float:
        return self.summary.output_tokens_per_s / self.limit_tokens_per_s


@dataclass(frozen=True, slots=True)
class BenchReport:
    machine: str
    model: str
    quantization: str
    prompt_tokens: int
    output_tokens: int
    rows: Sequence[Row]

    @property
    def title(self) -> str:
        return (
            f"{self.model}, quantization {self.quantization}, "
            f"{self.prompt_tokens} tokens in, {self.output_tokens} out"
        )


COLUMNS = ("topology", "n", "tok/s", "TTFT", "ITL p50", "ITL p99", "oneDNN tok/s", "x oneDNN")

CAPTION = (
    "n: concurrent requests. tok/s: output over the whole run, prefill included; TTFT: mean. "
    "oneDNN: the model's matrix products alone through torch's oneDNN, for n decoding requests, "
    "measured in the same run; Baton's own kernels may be faster than that."
)


def table(report: BenchReport) -> Table:
    drawn = Table(title=report.title, caption=f"{report.machine}\n{CAPTION}", title_justify="left")
    for index, column in enumerate(COLUMNS):
        drawn.add_column(column, justify="left" if index == 0 else "right")
    for row in report.rows:
        drawn.add_row(*cells(row))
    return drawn


def markdown(report: BenchReport) -> str:
    """The table as the README carries it."""
    lines = [
        f"{report.title}; {report.machine}:",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---|" + "---:|" * (len(COLUMNS) - 1),
        *("| " + " | ".join(cells(row)) + " |" for row in report.rows),
        "",
        CAPTION,
    ]
    return "\n".join(lines)


def cells(row: Row) -> tuple[str, ...]:
    summary = row.summary
    return (
        row.topology,
        str(row.concurrency),
        f"{summary.output_tokens_per_s:.1f}",
        f"{summary.ttft_mean_s * 1000:.0f} ms",
        f"{summary.itl_p50_s * 1000:.1f} ms",
        f"{summary.itl_p99_s * 1000:.1f} ms",
        f"{row.limit_tokens_per_s:.1f}",
        f"{row.of_limit:.2f}",
    )


def as_json(report: BenchReport) -> str:
    """Everything measured, unrounded."""
    return json.dumps(asdict(report), indent=1) + "\n"
