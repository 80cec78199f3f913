"""What a quality run found, as a table for people and as JSON for machines. Pure."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from baton_loadtest.quality_stats import Quality

COLUMNS = ("scheme", "perplexity", "to fp32", "KL, nats", "same token", "same continuation")

CAPTION = (
    "to fp32: ratio of perplexities. KL: mean divergence from fp32. same token: share of positions "
    "whose likeliest token is fp32's. same continuation: mean tokens before a free greedy "
    "continuation leaves fp32's."
)


@dataclass(frozen=True, slots=True)
class QualityReport:
    machine: str
    model: str
    text: str
    python: str  # version: the text is its own
    tokens: int  # scored
    window_tokens: int
    rows: Sequence[Quality]
    device: str = "cpu"  # where the schemes computed; always so in results older than this field
    commit: str | None = None  # none in results older than this field

    @property
    def title(self) -> str:
        return (
            f"{self.model}: {self.tokens} tokens of {self.text} (Python {self.python}), "
            f"windows of {self.window_tokens}"
        )


def quality_table(report: QualityReport) -> Table:
    drawn = Table(title=report.title, caption=f"{report.machine}\n{CAPTION}", title_justify="left")
    for index, column in enumerate(COLUMNS):
        drawn.add_column(column, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in report.rows:
        drawn.add_row(*quality_cells(row))
    return drawn


def quality_cells(row: Quality) -> tuple[str, ...]:
    return (
        row.scheme,
        f"{row.perplexity:.3f}",
        f"{row.perplexity_ratio:.4f}",
        f"{row.divergence_mean_nats:.5f}",
        f"{row.agreement:.1%}",
        f"{row.common_prefix_mean:.1f} of {row.continuation_tokens}",
    )


def quality_json(report: QualityReport) -> str:
    """Everything measured, unrounded."""
    return json.dumps(asdict(report), indent=1) + "\n"
