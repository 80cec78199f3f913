"""What a CUDA device computes: whether it is what transformers computes, and what each scheme costs
in answers. A section of the page. Pure: reports in, Markdown out.
"""

from collections.abc import Sequence

from baton_loadtest.benchmarks.device_speed import device_name
from baton_loadtest.benchmarks.kept import Kept, newest
from baton_loadtest.benchmarks.tables import table, unmeasured
from baton_loadtest.gpu_parity import ParityReport
from baton_loadtest.quality import DEVICE_VARIANTS
from baton_loadtest.quality_report import CAPTION, COLUMNS, QualityReport, quality_cells

PARITY_HEAD = ("tests", "passed", "failed", "skipped", "not run", "device", "commit", "run")


def device_quality_section(
    parity: Sequence[Kept[ParityReport]],
    workers: Sequence[Kept[ParityReport]],
    quality: Sequence[Kept[QualityReport]],
) -> str:
    tests = (*_tests("parity", parity), *_tests("two workers", workers))
    return "\n\n".join(
        (
            "### Parity with transformers, and two workers on one device: `make test-gpu`",
            table(PARITY_HEAD, tests),
            '### What each scheme costs in answers: `make quality ARGS="--device cuda"`',
            f"Against float32 on the processor; {CAPTION}",
            table(("model", *COLUMNS, "device", "commit", "run"), _quality(quality), words=2),
        )
    )


def _tests(name: str, kept: Sequence[Kept[ParityReport]]) -> list[tuple[str, ...]]:
    known = newest((device_name(one.found.machine), one) for one in kept)
    return [_counts(name, one) for one in known] or [(name, *unmeasured(4), "", "", "")]


def _counts(name: str, kept: Kept[ParityReport]) -> tuple[str, ...]:
    report = kept.found
    return (
        name,
        str(report.passed),
        str(len(report.failed)),
        str(report.skipped),
        str(report.not_run),
        device_name(report.machine),
        f"`{report.commit}`",
        kept.run,
    )


def _quality(kept: Sequence[Kept[QualityReport]]) -> list[tuple[str, ...]]:
    """Every scheme that such a device computes, once per device and model that has results."""
    on_device = [one for one in kept if one.found.device == "cuda"]
    return [row for variant in DEVICE_VARIANTS for row in _rows_of(variant.name, on_device)]


def _rows_of(scheme: str, kept: Sequence[Kept[QualityReport]]) -> list[tuple[str, ...]]:
    known = newest(
        ((device_name(one.found.machine), one.found.model), (one, row))
        for one in kept
        for row in one.found.rows
        if row.scheme == scheme
    )
    rows = [
        (
            *(one.found.model, *quality_cells(row), device_name(one.found.machine)),
            *(f"`{one.found.commit}`", one.run),
        )
        for one, row in known
    ]
    return rows or [("", scheme, *unmeasured(len(COLUMNS) - 1), "", "", "")]
