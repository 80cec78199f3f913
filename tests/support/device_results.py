"""What a run on a CUDA device would leave behind, made up: for tests of what shows it.

Written by the code that writes real results, so that a change of theirs is noticed.
"""

from dataclasses import replace

from baton_loadtest.gpu_parity import ParityReport
from baton_loadtest.gpu_report import (
    EndToEndFound,
    GpuFigure,
    GpuReport,
    HandoffFigures,
    KernelFigure,
    decode_work,
    prefill_work,
)
from baton_loadtest.gpu_roofline import DeviceRates
from baton_loadtest.gpu_spec import CONTEXT_TOKENS, PROMPTS, REQUESTS
from baton_loadtest.quality_report import QualityReport
from baton_loadtest.quality_stats import Quality

MACHINE = "NVIDIA Made-up, torch 0.0, Triton 0.0, a processor, 1 cores, Linux"


def alone() -> GpuReport:
    """The engine alone: what a run has kept after its first table."""
    decode = [GpuFigure(decode_work(n), n, 200.0 * n, 250.0 * n) for n in REQUESTS]
    prefill = [GpuFigure(prefill_work(n), n, 4.0 * n, 5.0 * n) for n in PROMPTS]
    return GpuReport(
        machine=MACHINE,
        commit="0a1b2c3",
        shape="llama-3.1-8b",
        quantization="bf16",
        kv_dtype="bfloat16",
        context_tokens=CONTEXT_TOKENS,
        rates=DeviceRates(4e12, 7e14),
        figures=[*decode, *prefill],
    )


def whole() -> GpuReport:
    """All three tables."""
    report = alone()
    kernels = [
        kernel
        for figure in report.figures
        for kernel in (
            KernelFigure(figure.work, "qkv", 0.0020, 0.0018),
            KernelFigure(figure.work, "norms", 0.0005, 0.0),
        )
    ]
    through = EndToEndFound(
        tokens_per_s={figure.work: 0.5 * figure.tokens_per_s for figure in report.figures},
        prompts={"remote": 7},
        handoff=HandoffFigures(8, 960, 1e8, 0.135, 0.030, 1e9),
    )
    return replace(report, kernels=kernels, end_to_end=through)


def torn() -> GpuReport:
    """What is left of a run in which something failed in each table: of the engine alone all but
    two figures, kernels of one step that has no figure, and end to end no hand-off."""
    report = whole()
    through = report.end_to_end
    assert through is not None
    lost = {decode_work(8), prefill_work(PROMPTS[0])}
    rates = through.tokens_per_s
    return replace(
        report,
        figures=[one for one in report.figures if one.work not in lost],
        kernels=[one for one in report.kernels if one.work == decode_work(8)],
        end_to_end=EndToEndFound({decode_work(n): rates[decode_work(n)] for n in (1, 8)}),
        failed={"alone": "EngineFailure: a step failed", "end-to-end": "Unavailable: no rate"},
    )


def parity() -> ParityReport:
    return ParityReport(
        machine=MACHINE,
        commit="0a1b2c3",
        collected=17,
        passed=11,
        skipped=1,
        failed=["a", "b"],
        seconds=60.0,
        ended_in="c",
    )


def quality() -> QualityReport:
    return QualityReport(
        machine=MACHINE,
        model="tiny",
        text="a text",
        python="3.12",
        tokens=100,
        window_tokens=64,
        rows=[Quality("fp8", 14.9, 1.0125, 0.0031, 0.955, 40.0, 64)],
        device="cuda",
        commit="0a1b2c3",
    )
