"""What a run on a GPU found, as tables for people and as JSON for machines.

Pure: returns, writes nothing. Every figure of the engine alone stands beside what the device itself
would allow, every figure end to end beside the engine alone. A run may have ended anywhere: any
figure may be missing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum

import msgspec
from rich.console import JustifyMethod
from rich.table import Table

from baton_loadtest.benchmarks.tables import NOT_MEASURED
from baton_loadtest.gpu_roofline import DeviceRates


class GpuTable(Enum):
    ALONE = "alone"
    KERNELS = "kernels"
    END_TO_END = "end-to-end"


def decode_work(requests: int) -> str:
    return f"decode, {requests} at once"


def prefill_work(tokens: int) -> str:
    return f"prefill, {tokens} tokens"


@dataclass(frozen=True, slots=True)
class GpuFigure:
    """Tokens per second of one kind of work, and of the roofline."""

    work: str  # such as "decode, 8 at once"
    tokens: int  # of one step of it
    tokens_per_s: float
    roofline_tokens_per_s: float

    @property
    def of_roofline(self) -> float:
        return self.tokens_per_s / self.roofline_tokens_per_s

    @property
    def step_s(self) -> float:
        return self.tokens / self.tokens_per_s


@dataclass(frozen=True, slots=True)
class KernelFigure:
    """One kind of kernel of a step, all layers of it, by itself."""

    work: str  # the step's, as of its GpuFigure
    kernel: str
    seconds: float
    least_s: float  # by the device's rates; 0: it reads next to nothing

    @property
    def of_limit(self) -> float | None:
        return self.least_s / self.seconds if self.least_s else None


@dataclass(frozen=True, slots=True)
class HandoffFigures:
    """Means of some lone prompts."""

    prompts: int
    prompt_tokens: int
    moved_bytes: float
    called_s: float  # decode's call to the first token
    prefill_s: float  # of it, what the prefill worker queued and computed
    bytes_per_s: float  # of frames that follow each other, as decode has learned it

    @property
    def transfer_s(self) -> float:
        """Moving alone. Of a prompt of several steps, part of it overlaps with computing."""
        return self.moved_bytes / self.bytes_per_s

    @property
    def beyond_transfer_s(self) -> float:
        return self.called_s - self.prefill_s - self.transfer_s

    @property
    def line(self) -> str:
        return (
            f"hand-off of {self.prompt_tokens} tokens, mean of {self.prompts}:"
            f" {self.called_s * 1e3:.1f} ms, of them {self.prefill_s * 1e3:.1f} prefill's own,"
            f" {self.transfer_s * 1e3:.1f} for {self.moved_bytes / 1e6:.1f} MB at"
            f" {self.bytes_per_s / 1e9:.2f} GB/s, {self.beyond_transfer_s * 1e3:.1f} beyond"
        )


@dataclass(frozen=True, slots=True)
class EndToEndFound:
    """What a client, and the workers, saw of the same work."""

    tokens_per_s: Mapping[str, float] = field(default_factory=dict)  # by work
    # by where the router had them computed, and why there
    prompts: Mapping[str, int] = field(default_factory=dict)
    handoff: HandoffFigures | None = None

    @property
    def prompts_line(self) -> str:
        counts = (f"{count} {reason}" for reason, count in sorted(self.prompts.items()) if count)
        return f"prompts by the router's decision: {', '.join(counts) or NOT_MEASURED}"

    @property
    def handoff_line(self) -> str:
        return self.handoff.line if self.handoff else f"hand-off: {NOT_MEASURED}"


@dataclass(frozen=True, slots=True)
class GpuReport:
    machine: str
    commit: str
    shape: str
    quantization: str
    kv_dtype: str
    context_tokens: int
    rates: DeviceRates
    figures: Sequence[GpuFigure] = ()
    kernels: Sequence[KernelFigure] = ()
    end_to_end: EndToEndFound | None = None
    failed: Mapping[str, str] = field(default_factory=dict)  # why, by table

    def figure(self, work: str) -> GpuFigure | None:
        """Of the engine alone."""
        return next((one for one in self.figures if one.work == work), None)

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


def kernels_table(report: GpuReport) -> Table:
    """Kind by kind, and what a step takes beyond: gaps, sampling, the host where it lags."""
    table = Table(
        title=f"{report.title}: each kind of kernel by itself, all layers",
        caption="limit: its bytes at the copy rate, or its products at the matrix rate",
        title_justify="left",
    )
    for name in ("work", "kernel", "ms", "of step", "of limit"):
        justify: JustifyMethod = "left" if name in ("work", "kernel") else "right"
        table.add_column(name, justify=justify)
    for work in dict.fromkeys(one.work for one in report.kernels):
        kinds = [one for one in report.kernels if one.work == work]
        figure = report.figure(work)
        for one in kinds:
            limit = "" if one.of_limit is None else f"{one.of_limit:.0%}"
            share = f"{one.seconds / figure.step_s:.0%}" if figure else NOT_MEASURED
            table.add_row(work, one.kernel, f"{one.seconds * 1e3:.3f}", share, limit)
        if figure is not None:
            rest_s = figure.step_s - sum(one.seconds for one in kinds)
            share = f"{rest_s / figure.step_s:.0%}"
            table.add_row(work, "all else", f"{rest_s * 1e3:.3f}", share, "")
    return table


def end_to_end_table(report: GpuReport) -> Table:
    found = report.end_to_end or EndToEndFound()
    table = Table(
        title=f"{report.title}: through router, prefill, hand-off and decode",
        caption=f"{found.prompts_line}\n{found.handoff_line}",
        title_justify="left",
    )
    for name in ("work", "tok/s", "engine alone tok/s", "of engine alone"):
        table.add_column(name, justify="left" if name == "work" else "right")
    alone = {figure.work: figure.tokens_per_s for figure in report.figures}
    for work in dict.fromkeys((*alone, *found.tokens_per_s)):
        rates = (found.tokens_per_s.get(work), alone.get(work))
        said = [NOT_MEASURED if rate is None else f"{rate:,.0f}" for rate in rates]
        table.add_row(work, *said, _of_engine(*rates))
    return table


def _of_engine(through: float | None, alone: float | None) -> str:
    return NOT_MEASURED if through is None or alone is None else f"{through / alone:.0%}"


def gpu_json(report: GpuReport) -> str:
    found = asdict(report)
    through = report.end_to_end
    for row, figure in zip(found["figures"], report.figures, strict=True):
        row["of_roofline"] = round(figure.of_roofline, 4)
        if through is not None and figure.work in through.tokens_per_s:
            of_engine = through.tokens_per_s[figure.work] / figure.tokens_per_s
            row["end_to_end_of_engine"] = round(of_engine, 4)
    for row, one in zip(found["kernels"], report.kernels, strict=True):
        row["of_limit"] = None if one.of_limit is None else round(one.of_limit, 4)
    if through is not None and through.handoff is not None:
        found["end_to_end"]["handoff"] |= {
            "transfer_s": through.handoff.transfer_s,
            "beyond_transfer_s": through.handoff.beyond_transfer_s,
        }
    return json.dumps(found, indent=2) + "\n"


def read_gpu_json(text: str) -> GpuReport:
    """What `gpu_json` wrote. Raises msgspec.DecodeError, ValidationError."""
    return msgspec.json.decode(text, type=GpuReport)
