"""What a bench of the operator found: values, ratios, tables, JSON. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from cluster.bench.figures import Span, writes_of
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of the operator's life with so many services."""

    name: str
    services: int
    span: Span
    audited: Mapping[str, int]  # by the API server, watches included: "verb resource" -> calls

    @property
    def audited_per_minute(self) -> float:
        return sum(self.audited.values()) * 60 / self.span.seconds

    @property
    def line(self) -> str:
        """For whoever waits."""
        return f"{self.name}: " + ", ".join(
            f"{name} {cell}" for name, cell in zip(PHASE_COLUMNS[1:], cells(self), strict=True)
        )


@dataclass(frozen=True, slots=True)
class Serving:
    """One ModelService on real nodes, seconds since it was applied; and a step of its load."""

    container_started_s: float  # of the worker that was ready last
    pod_ready_s: float  # the same one
    first_token_s: float
    step_decided_s: float  # after the load began: more decode pods are wanted
    step_started_s: float  # the first new pod's container runs
    step_ready_s: float

    @property
    def of_bare_start(self) -> float:
        """Time to the first token over the time the worker's process itself needs."""
        return self.first_token_s / (self.pod_ready_s - self.container_started_s)

    @property
    def step_of_bare_start(self) -> float:
        return self.step_ready_s / (self.step_ready_s - self.step_started_s)


@dataclass(frozen=True, slots=True)
class OperatorReport:
    machine: str
    commit: str
    load_average: float  # before the run: others may use the machine
    serving: Sequence[Serving]
    fleet: Sequence[Phase]


PHASE_COLUMNS = (
    *("phase", "services", "s", "passes", "failed", "pass p50", "p99", "calls/pass"),
    *("calls/min", "audited/min", "writes", "cores", "MiB"),
)
CAPTION = (
    "Calls to the API server by the operator's own count (without watches) and by the API server's "
    "audit log (with them); writes without the Lease; cores: busy on average; MiB: resident."
)


def cells(phase: Phase) -> tuple[str, ...]:
    """All but the name."""
    span = phase.span
    return (
        str(phase.services),
        f"{span.seconds:.0f}",
        str(span.passes),
        str(span.failed_passes),
        _milliseconds(span.pass_p50_s),
        _milliseconds(span.pass_p99_s),
        "-" if span.calls_per_pass is None else f"{span.calls_per_pass:.1f}",
        f"{span.calls_per_minute:.0f}",
        f"{phase.audited_per_minute:.0f}",
        str(writes_of(phase.audited)),
        f"{span.cpu_cores:.3f}",
        f"{span.memory_mib:.0f}",
    )


def fleet_table(phases: Sequence[Phase]) -> Table:
    table = Table(title="One operator, fake nodes", caption=CAPTION, title_justify="left")
    for index, column in enumerate(PHASE_COLUMNS):
        table.add_column(column, justify="left" if index == 0 else "right")
    for phase in phases:
        table.add_row(phase.name, *cells(phase))
    return table


def serving_table(rounds: Sequence[Serving]) -> Table:
    table = Table(title="One ModelService, real nodes, seconds", title_justify="left")
    table.add_column("")
    for number in range(len(rounds)):
        table.add_column(f"round {number + 1}", justify="right")
    rows = {
        "apply → worker's container runs": [one.container_started_s for one in rounds],
        "apply → worker ready": [one.pod_ready_s for one in rounds],
        "apply → first token": [one.first_token_s for one in rounds],
        "  over the process's own start": [one.of_bare_start for one in rounds],
        "load step → more pods wanted": [one.step_decided_s for one in rounds],
        "load step → new container runs": [one.step_started_s for one in rounds],
        "load step → first new pod ready": [one.step_ready_s for one in rounds],
        "  over the process's own start ": [one.step_of_bare_start for one in rounds],
    }
    for name, values in rows.items():
        table.add_row(name, *(f"{value:.2f}" for value in values))
    return table


def as_document(report: OperatorReport) -> dict[str, object]:
    """Everything measured, and what follows from it."""
    document = asdict(report)
    for found, phase in zip(document["fleet"], report.fleet, strict=True):
        found["calls_per_minute"] = phase.span.calls_per_minute
        found["calls_per_pass"] = phase.span.calls_per_pass
        found["audited_per_minute"] = phase.audited_per_minute
    for found, one in zip(document["serving"], report.serving, strict=True):
        found["first_token_of_bare_start"] = one.of_bare_start
        found["step_of_bare_start"] = one.step_of_bare_start
    return document


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"
