"""What a comparison found, for people (terminal, Markdown) and for machines (JSON).

Pure: returns, writes nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from baton_loadtest.peers.client import OUTPUT_TOKENS, PROMPT_TOKENS
from baton_loadtest.peers.ranking import PeerRow


@dataclass(frozen=True, slots=True)
class Comparison:
    machine: str
    model: str
    baton_options: tuple[str, ...]
    rounds: int
    quick: bool
    load_average: float  # of the machine just before
    rows: Sequence[PeerRow]

    @property
    def title(self) -> str:
        counts = "quick" if self.quick else f"{self.rounds} rounds"
        return f"{self.model}, {PROMPT_TOKENS} tokens in, {OUTPUT_TOKENS} out, {counts}"

    @property
    def about(self) -> tuple[str, ...]:
        """What the numbers were measured on."""
        options = " ".join(self.baton_options) or "none"
        return (
            self.machine,
            f"load average before: {self.load_average:.1f}; further options of Baton: {options}",
        )


COLUMNS = (
    *("server", "n", "tok/s", "x best", "TTFT", "x best", "ITL", "x best", "ITL p99", "failed"),
)

CAPTION = (
    "n: concurrent clients. tok/s: output over the whole run; TTFT, ITL: means; medians of the "
    "rounds. x best: against the best of the peers at the same n in the same round (tok/s: more is "
    "better; TTFT, ITL: less is better). failed: requests of all that were sent."
)


def table(found: Comparison) -> Table:
    caption = "\n".join((*found.about, CAPTION))
    drawn = Table(title=found.title, caption=caption, title_justify="left", caption_justify="left")
    for index, column in enumerate(COLUMNS):
        drawn.add_column(column, justify="left" if index == 0 else "right")
    for before, row in zip((None, *found.rows), found.rows, strict=False):
        if before is not None and before.concurrency != row.concurrency:
            drawn.add_section()
        drawn.add_row(*cells(row))
    return drawn


def markdown(found: Comparison) -> str:
    """The table as a document carries it, with the reasons of failures below."""
    return "\n".join(
        (
            f"{found.title}; {'; '.join(found.about)}:",
            "",
            "| " + " | ".join(COLUMNS) + " |",
            "|---|" + "---:|" * (len(COLUMNS) - 1),
            *("| " + " | ".join(cells(row)) + " |" for row in found.rows),
            "",
            CAPTION,
            *problems(found),
        )
    )


def problems(found: Comparison) -> tuple[str, ...]:
    """One line for each way in which a contestant failed, its last words included."""
    return tuple(
        dict.fromkeys(
            f"{row.contestant} failed: {problem}" for row in found.rows for problem in row.problems
        )
    )


def cells(row: PeerRow) -> tuple[str, ...]:
    said = row.typical
    if said is None:
        return (row.contestant, str(row.concurrency), "failed", *("-",) * (len(COLUMNS) - 4), "all")
    throughput, ttft, itl = _ratios(row)
    return (
        row.contestant,
        str(row.concurrency),
        f"{said.output_tokens_per_s:.1f}",
        throughput,
        f"{said.ttft_mean_s * 1000:.0f} ms",
        ttft,
        f"{said.itl_mean_s * 1000:.1f} ms",
        itl,
        f"{said.itl_p99_s * 1000:.1f} ms",
        _failed(row),
    )


def _ratios(row: PeerRow) -> tuple[str, str, str]:
    if row.ratios is None:
        return "-", "-", "-"
    return f"{row.ratios.throughput:.2f}", f"{row.ratios.ttft:.2f}", f"{row.ratios.itl:.2f}"


def _failed(row: PeerRow) -> str:
    assert row.typical is not None
    sent = row.typical.completed + row.typical.failed
    count = f"{row.typical.failed} / {sent}"
    return f"{count}, {len(row.problems)} rounds" if row.problems else count


def as_json(found: Comparison) -> str:
    """Everything measured, unrounded."""
    return json.dumps(asdict(found), indent=1) + "\n"
