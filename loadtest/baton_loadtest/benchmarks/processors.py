"""Quality, speculation and cost model on processors: a section of the page.

Pure: results in, Markdown out. These results name a processor by its brand alone, so that the
newest of one may be of another of the same brand; most tell no commit.
"""

from collections.abc import Sequence

from baton_loadtest import costmodel_command, speculation_command
from baton_loadtest.benchmarks.kept import (
    CostmodelResult,
    Kept,
    KeptResults,
    SpeculationResult,
    newest,
)
from baton_loadtest.benchmarks.tables import table
from baton_loadtest.quality_report import CAPTION, COLUMNS, QualityReport, quality_cells

ALL_STEPS = "all"


def processors_section(kept: KeptResults) -> str:
    return "\n\n".join(
        (
            "### What each scheme costs in answers: `make quality`",
            CAPTION,
            _quality(kept.quality),
            "### What guessing gains: `make speculation`",
            speculation_command.CAPTION,
            _speculation(kept.speculation),
            "### Predicted against measured step times: `make costmodel`",
            costmodel_command.CAPTION,
            _costmodel(kept.costmodel),
        )
    )


def _quality(kept: Sequence[Kept[QualityReport]]) -> str:
    known = newest(
        ((one.found.machine, one.found.model, row.scheme), (one, row))
        for one in kept
        if one.found.device == "cpu"
        for row in one.found.rows
    )
    rows = [
        (one.found.machine, one.found.model, *quality_cells(row), _run(one)) for one, row in known
    ]
    return table(("machine", "model", *COLUMNS, "run"), rows, words=3)


def _run(kept: Kept[QualityReport]) -> str:
    commit = kept.found.commit
    return f"{kept.run} at `{commit}`" if commit else kept.run


def _speculation(kept: Sequence[Kept[SpeculationResult]]) -> str:
    known = newest(
        ((one.found.machine, one.found.model, row.kind, row.batch), (one, row))
        for one in kept
        for row in one.found.rows
    )
    rows = [
        (
            *(one.found.machine, one.found.model, *speculation_command.speculation_cells(row)),
            one.run,
        )
        for one, row in known
    ]
    return table(("machine", "model", *speculation_command.COLUMNS, "run"), rows, words=3)


def _costmodel(kept: Sequence[Kept[CostmodelResult]]) -> str:
    known = newest(
        ((one.found.machine, one.found.model), (one, row))
        for one in kept
        for row in one.found.rows
        if row.kind == ALL_STEPS
    )
    rows = [
        (one.found.machine, one.found.model, *costmodel_command.costmodel_cells(row), one.run)
        for one, row in known
    ]
    return table(("machine", "model", *costmodel_command.COLUMNS, "run"), rows, words=3)
