"""`make start`: how long a worker of either role takes from nothing to ready, phase by phase, and
what it then holds in memory; both against what issue 5 asks for.

Starts real processes and reads their logs and /proc; loads no model itself, so that the files it
evicts for a cold start are not held by its own maps.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from baton.cli.pull import default_cache_dir, pull
from baton.cli.stack import DEFAULT_MODEL, served_name
from baton.common.errors import BatonError
from baton.engine.quant.quantization import Quantization
from baton.engine.quant.schemes import head_scheme
from baton.model.card import read_config
from baton.model.config import ModelConfig, weight_count
from rich.console import Console
from rich.table import Table

from baton_loadtest.machine import machine_line

PHASES = ("starting", "libraries loaded", "model planned", "weights loaded", "ready")
"""Messages of a worker's log, in their order."""

ROLES = ("prefill", "decode")

READY_S_MAX = 5.0
"""From nothing to ready, warm, SmolLM2."""

MEMORY_RATIO_MAX = 1.5
"""Resident bytes to those of weights and KV cache."""

START_LIMIT_S = 300.0
STOP_LIMIT_S = 15.0
KV_CACHE_MIB = 256
"""Holds some 20,000 tokens of a 135M model in 8 bits: what a small worker is given."""

WEIGHT_BYTES = {
    Quantization.NONE: 4.0,
    Quantization.BF16: 2.0,
    Quantization.INT8: 1.0,
    Quantization.INT8_WEIGHT_ONLY: 1.0,
    Quantization.INT4: 0.625,  # as in GGUF's Q4_1: 32 inputs share two numbers of 16 bits
    Quantization.INT4_WEIGHT_ONLY: 0.5,
}
"""Per weight of a linear layer; scales of whole columns, and of weights alone, are left out."""

MIB = 1024 * 1024


class Sample(msgspec.Struct, frozen=True):
    """A process at one moment."""

    wall_s: float  # since its start
    cpu_s: float  # of all its threads
    rss_bytes: int


class Start(msgspec.Struct, frozen=True):
    """How one worker began."""

    role: str
    phases: tuple[tuple[str, Sample], ...]  # as each ended
    peak_bytes: int  # resident, at the most

    @property
    def ready(self) -> Sample:
        return self.phases[-1][1]


def run_start(
    model: Annotated[str, typer.Option(help="Reference, as for `baton serve`.")] = DEFAULT_MODEL,
    quantization: Annotated[
        Quantization, typer.Option(help="How linear layers hold their weights.")
    ] = Quantization.INT8,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Warm starts.")] = 3,
    cold: Annotated[bool, typer.Option(help="A start without the page cache first.")] = True,
) -> None:
    """Measure how workers start on this machine."""
    console = Console()
    console.print(f"{machine_line()}; load average {os.getloadavg()[0]:.1f} before this run")
    local = pull(model, default_cache_dir(os.environ))
    config = read_config(local)
    if cold:
        evicted = evict([local.path, *library_files()])
        told = f"cold ({evicted / MIB:,.0f} MiB told to leave the page cache)"
        console.print(phase_table(told, measure(ROLES[-1], model, quantization)))
    measure(ROLES[-1], model, quantization)  # warms the page cache, and builds kernels
    warm = [fastest(role, model, quantization, rounds) for role in ROLES]
    for start in warm:
        console.print(phase_table(f"{start.role}, warm, the fastest of {rounds}", start))
        console.print(memory_table(start, config, quantization))
    console.print(verdict_table(warm, config, quantization))


def fastest(role: str, model: str, quantization: Quantization, rounds: int) -> Start:
    starts = [measure(role, model, quantization) for _ in range(rounds)]
    return min(starts, key=lambda start: start.ready.wall_s)


def measure(role: str, model: str, quantization: Quantization) -> Start:
    """One worker from nothing to ready. Raises BatonError when it ends before."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", f"baton.{role}", "--port", str(port), "--model", model),
        *("--model-name", served_name(model), "--quantization", quantization.value),
        *("--kv-cache-mib", str(KV_CACHE_MIB)),
    ]
    began_s = time.monotonic()
    worker = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        phases = tuple(_phases(worker, began_s))
        return Start(role, phases, _peak_bytes(worker.pid))
    finally:
        worker.terminate()
        with suppress(subprocess.TimeoutExpired):
            worker.wait(STOP_LIMIT_S)
        worker.kill()
        worker.wait()


def _phases(worker: subprocess.Popen[bytes], began_s: float) -> Iterator[tuple[str, Sample]]:
    assert worker.stderr is not None
    awaited, said = list(PHASES), b""
    for line in worker.stderr:
        said = line
        with suppress(msgspec.DecodeError):
            if msgspec.json.decode(line, type=dict[str, object]).get("message") != awaited[0]:
                continue
            yield awaited.pop(0), _sample(worker.pid, began_s)
            if not awaited:
                return
        if time.monotonic() - began_s > START_LIMIT_S:
            break
    raise BatonError(f"the worker did not get to {awaited[0]!r}: {said.decode(errors='replace')}")


def _sample(pid: int, began_s: float) -> Sample:
    wall_s = time.monotonic() - began_s
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = int(words[11]) + int(words[12])  # user and system
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Sample(wall_s, ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"))


def _peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def library_files() -> list[Path]:
    """Everything installed beside this Python."""
    folder = Path(msgspec.__file__).parents[1]
    return [path for path in folder.rglob("*") if path.is_file()]


def evict(files: Sequence[Path]) -> int:
    """Ask the kernel to forget files, as it does for all that nobody maps; their bytes."""
    size = 0
    for path in files:
        with suppress(OSError), path.open("rb") as file:
            size += os.fstat(file.fileno()).st_size
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return size


def phase_table(title: str, start: Start) -> Table:
    table = Table("phase", "wall s", "CPU s", "resident MiB", title=title)
    before = Sample(0.0, 0.0, 0)
    for name, now in start.phases:
        wall_s, cpu_s = now.wall_s - before.wall_s, now.cpu_s - before.cpu_s
        table.add_row(f"… {name}", f"{wall_s:.2f}", f"{cpu_s:.2f}", f"{now.rss_bytes / MIB:,.0f}")
        before = now
    table.add_section()
    cells = (f"{start.ready.wall_s:.2f}", f"{start.ready.cpu_s:.2f}")
    table.add_row("ready", *cells, f"{start.ready.rss_bytes / MIB:,.0f}")
    return table


def memory_table(start: Start, config: ModelConfig, quantization: Quantization) -> Table:
    """Resident memory against what a worker cannot do without."""
    rss_bytes, cache = start.ready.rss_bytes, KV_CACHE_MIB * MIB
    table = Table("memory, MiB", "", title=f"{start.role}, memory of the warm start")
    for name, size in (
        ("resident when ready, KV cache untouched", rss_bytes),
        ("resident at the most, while it started", start.peak_bytes),
        (f"weights ({quantization.value})", weight_bytes(config, quantization)),
        ("KV cache when full", cache),
        ("resident with a full cache, at most", rss_bytes + cache),
    ):
        table.add_row(name, f"{size / MIB:,.0f}")
    return table


def weight_bytes(config: ModelConfig, quantization: Quantization) -> float:
    head = config.vocab_size * config.hidden_size
    layers = weight_count(config) - head
    return layers * WEIGHT_BYTES[quantization] + head * WEIGHT_BYTES[head_scheme(quantization)]


def memory_ratio(start: Start, config: ModelConfig, quantization: Quantization) -> float:
    """Resident with a full cache, to weights and KV."""
    cache = KV_CACHE_MIB * MIB
    return (start.ready.rss_bytes + cache) / (weight_bytes(config, quantization) + cache)


def verdict_table(
    starts: Sequence[Start], config: ModelConfig, quantization: Quantization
) -> Table:
    """Each role against what is asked for."""
    table = Table("", *(start.role for start in starts), "asked for", title="warm start")
    ready = [start.ready.wall_s for start in starts]
    ratios = [memory_ratio(start, config, quantization) for start in starts]
    table.add_row("ready, wall s", *(f"{it:.2f}" for it in ready), f"<= {READY_S_MAX:.0f}")
    table.add_row("ready, CPU s", *(f"{start.ready.cpu_s:.2f}" for start in starts), "")
    table.add_row(
        "resident to weights + KV", *(f"{it:.2f}" for it in ratios), f"<= {MEMORY_RATIO_MAX}"
    )
    held = [
        wall_s <= READY_S_MAX and ratio <= MEMORY_RATIO_MAX
        for wall_s, ratio in zip(ready, ratios, strict=True)
    ]
    table.add_row("held", *("yes" if it else "NO" for it in held), "")
    return table


def main() -> None:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(run_start)
    try:
        app()
    except BatonError as error:
        print(f"start: {error.message}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
