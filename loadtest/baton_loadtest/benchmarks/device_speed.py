"""How fast an engine on a CUDA device is, beside what was aimed at: a section of the page.

Pure: reports in, Markdown out. A cell that no report fills says so.
"""

from collections.abc import Sequence

from baton_loadtest.benchmarks.device_aims import (
    AIMED_AT,
    AIMS,
    DECODE_AIM,
    END_TO_END_AIM,
    FURTHER,
    HANDOFF_AIM,
    KERNEL_AIM,
    PREFILL_AIM,
    Case,
)
from baton_loadtest.benchmarks.kept import Kept, newest
from baton_loadtest.benchmarks.tables import NOT_MEASURED, table, unmeasured
from baton_loadtest.gpu_report import GpuFigure, GpuReport, HandoffFigures
from baton_loadtest.gpu_spec import CONTEXT_TOKENS

SPEED_HEAD = (
    *("work", "tok/s", "roofline tok/s", "of roofline", "aim"),
    *("end to end tok/s", "of engine alone", "aim"),
)
HANDOFF_HEAD = (
    *("prompt", "decode's call to first token", "of it prefill's own", "moved", "at"),
    *("moving alone", "beyond it", "aim"),
)
FURTHER_HEAD = (
    *("shape", "scheme", "KV", "context", *AIMS),
    *("hand-off beyond moving", "device", "commit", "run"),
)


def device_speed_section(kept: Sequence[Kept[GpuReport]]) -> str:
    """The case that is aimed at in full, once per device; all others in a line each."""
    known = list(newest((_of(one.found), one) for one in kept))
    aimed = [one for one in known if _is_aimed_at(one.found)]
    others = [one for one in known if not _is_aimed_at(one.found)]
    blocks = [_block(one) for one in aimed] or [_block(None)]
    return "\n\n".join((*blocks, _further(others)))


def device_name(machine: str) -> str:
    """Of `device_line`."""
    return machine.partition(",")[0]


def _of(report: GpuReport) -> tuple[object, ...]:
    case = (report.shape, report.quantization, report.kv_dtype, report.context_tokens)
    return (device_name(report.machine), *case)


def _is_aimed_at(report: GpuReport) -> bool:
    case = (report.shape, report.quantization)
    return (case, report.context_tokens) == (AIMED_AT, CONTEXT_TOKENS)


def _block(kept: Kept[GpuReport] | None) -> str:
    case = f"{AIMED_AT[0]} in {AIMED_AT[1]}, {CONTEXT_TOKENS:,} tokens of context"
    report = kept.found if kept else None
    through = report.end_to_end if report else None
    return "\n\n".join(
        (
            f"### {case}: `make bench-gpu`",
            _about(kept),
            table(SPEED_HEAD, [_speed(work, report) for work in AIMS]),
            "A hand-off of one prompt, means:",
            table(HANDOFF_HEAD, [_handoff(through.handoff if through else None)], words=0),
            f"Each kind of kernel by itself, all layers, and of its own limit (aim: {KERNEL_AIM}):",
            table(("kernel", *AIMS), _kernels(report)),
        )
    )


def _about(kept: Kept[GpuReport] | None) -> str:
    if kept is None:
        return "No result is kept."
    report = kept.found
    return (
        f"{report.machine}; {report.rates_line}. {report.kv_dtype} KV, random weights; commit"
        f" `{report.commit}`, {kept.run}."
    )


def _speed(work: str, report: GpuReport | None) -> tuple[str, ...]:
    found = report.figure(work) if report else None
    through = report.end_to_end.tokens_per_s.get(work) if report and report.end_to_end else None
    return (work, *_alone(found), AIMS[work], *_through(found, through), END_TO_END_AIM)


def _alone(found: GpuFigure | None) -> tuple[str, ...]:
    if found is None:
        return unmeasured(3)
    rates = (f"{found.tokens_per_s:,.0f}", f"{found.roofline_tokens_per_s:,.0f}")
    return (*rates, f"{found.of_roofline:.0%}")


def _through(found: GpuFigure | None, tokens_per_s: float | None) -> tuple[str, ...]:
    if tokens_per_s is None:
        return unmeasured(2)
    of_engine = f"{tokens_per_s / found.tokens_per_s:.0%}" if found else NOT_MEASURED
    return (f"{tokens_per_s:,.0f}", of_engine)


def _handoff(found: HandoffFigures | None) -> tuple[str, ...]:
    if found is None:
        return (*unmeasured(len(HANDOFF_HEAD) - 1), HANDOFF_AIM)
    return (
        f"{found.prompt_tokens:,} tokens",
        f"{found.called_s * 1e3:.1f} ms",
        f"{found.prefill_s * 1e3:.1f} ms",
        f"{found.moved_bytes / 1e6:.1f} MB",
        f"{found.bytes_per_s / 1e9:.2f} GB/s",
        f"{found.transfer_s * 1e3:.1f} ms",
        f"{found.beyond_transfer_s * 1e3:.1f} ms",
        HANDOFF_AIM,
    )


def _kernels(report: GpuReport | None) -> list[tuple[str, ...]]:
    """A row per kind; last, what a step takes beyond their sum."""
    if report is None or not report.kernels:
        return [("every kind", *unmeasured(len(AIMS)))]
    names = dict.fromkeys(one.kernel for one in report.kernels)
    rows = [(name, *(_kernel(report, work, name) for work in AIMS)) for name in names]
    return [*rows, ("all else", *(_rest(report, work) for work in AIMS))]


def _kernel(report: GpuReport, work: str, name: str) -> str:
    for one in report.kernels:
        if (one.work, one.kernel) == (work, name):
            limit = "" if one.of_limit is None else f", {one.of_limit:.0%}"
            return f"{one.seconds * 1e3:.3f} ms{limit}"
    return NOT_MEASURED


def _rest(report: GpuReport, work: str) -> str:
    step = report.figure(work)
    kinds = [one.seconds for one in report.kernels if one.work == work]
    if step is None or not kinds:
        return NOT_MEASURED
    return f"{(step.step_s - sum(kinds)) * 1e3:.3f} ms"


def _further(kept: Sequence[Kept[GpuReport]]) -> str:
    """Every further case that is kept or should be."""
    measured = {(one.found.shape, one.found.quantization) for one in kept}
    missing = [_empty_line(case) for case in FURTHER if case not in measured]
    command = 'make bench-gpu ARGS="--shape SHAPE --quantization SCHEME"'
    return "\n\n".join(
        (
            f"### Other shapes and schemes: `{command}`",
            f"tok/s and of roofline (aims: decode {DECODE_AIM}, prefill {PREFILL_AIM}), then of the"
            f" engine alone end to end (aim: {END_TO_END_AIM}); hand-off: aim {HANDOFF_AIM}.",
            table(FURTHER_HEAD, [*map(_line, kept), *missing], words=3),
        )
    )


def _line(kept: Kept[GpuReport]) -> tuple[str, ...]:
    report = kept.found
    handoff = report.end_to_end.handoff if report.end_to_end else None
    return (
        *(report.shape, report.quantization, report.kv_dtype, f"{report.context_tokens:,}"),
        *(_short_speed(work, report) for work in AIMS),
        f"{handoff.beyond_transfer_s * 1e3:.1f} ms" if handoff else NOT_MEASURED,
        *(device_name(report.machine), f"`{report.commit}`", kept.run),
    )


def _empty_line(case: Case) -> tuple[str, ...]:
    return (*case, "auto", f"{CONTEXT_TOKENS:,}", *unmeasured(len(AIMS) + 1), "", "", "")


def _short_speed(work: str, report: GpuReport) -> str:
    _, rate, _, of_roofline, _, _, of_engine, _ = _speed(work, report)
    return NOT_MEASURED if rate == NOT_MEASURED else f"{rate}, {of_roofline}, {of_engine}"
