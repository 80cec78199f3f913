"""The `baton-loadtest` command: options in, table and JSON out."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from baton.cli.pull import default_cache_dir, pull
from baton.cli.stack import DEFAULT_MODEL, served_name
from baton.common.clock import SystemClock
from baton.common.errors import BatonError
from baton.engine.quant.quantization import Quantization
from baton.model.card import read_config
from rich.console import Console

from baton_loadtest.bench import CONCURRENCIES, BenchOptions, bench
from baton_loadtest.costmodel_command import run_costmodel
from baton_loadtest.gpu_command import run_gpu
from baton_loadtest.machine import machine_line
from baton_loadtest.peers.command import run_peers
from baton_loadtest.profile_command import run_profile
from baton_loadtest.quality_command import run_quality
from baton_loadtest.report import BenchReport, as_json, markdown, table
from baton_loadtest.speculation_command import run_speculation

QUICK_PROMPT_TOKENS, QUICK_OUTPUT_TOKENS, QUICK_CONCURRENCIES = 64, 32, (1, 8)
RESULTS_DIR = Path("loadtest/results/local")


def run_bench(
    model: Annotated[str, typer.Option(help="Reference, as for `baton serve`.")] = DEFAULT_MODEL,
    quantization: Annotated[
        Quantization, typer.Option(help="How linear layers hold their weights.")
    ] = Quantization.NONE,
    prompt_tokens: Annotated[int, typer.Option(min=1, max=32_768)] = 256,
    output_tokens: Annotated[int, typer.Option(min=2, max=4_096)] = 128,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Arrivals per second; default: all at once.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=1_000_000, help="Of the prompts.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A minute: short, 1 and 8 only.")] = False,
    results_dir: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULTS_DIR,
) -> None:
    """Measure `baton serve` on this machine: aggregated, and with a prefill worker."""
    console = Console()
    machine = machine_line()
    console.print(machine)
    options = BenchOptions(
        model=model,
        model_name=served_name(model),
        quantization=quantization,
        prompt_tokens=QUICK_PROMPT_TOKENS if quick else prompt_tokens,
        output_tokens=QUICK_OUTPUT_TOKENS if quick else output_tokens,
        concurrencies=QUICK_CONCURRENCIES if quick else CONCURRENCIES,
        seed=seed,
        rate_per_s=rate,
    )
    config = read_config(pull(model, default_cache_dir(os.environ)))
    rows = asyncio.run(
        bench(options, config, clock=SystemClock(), listener=lambda text: console.print(text))
    )
    report = BenchReport(
        machine=machine,
        model=options.model_name,
        quantization=quantization.value,
        prompt_tokens=options.prompt_tokens,
        output_tokens=options.output_tokens,
        rows=rows,
    )
    console.print(table(report))
    console.print(f"written to {save(report, results_dir, datetime.now(UTC))}")


def save(report: BenchReport, results_dir: Path, now: datetime) -> Path:
    """Writes JSON, and beside it the table as the README carries it; returns the JSON's path."""
    results_dir.mkdir(parents=True, exist_ok=True)
    path = results_dir / f"bench-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(as_json(report))
    path.with_suffix(".md").write_text(markdown(report) + "\n")
    return path


def main() -> None:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.callback(help="Load against a running Baton, and the numbers it gives.")(lambda: None)
    app.command("bench")(run_bench)
    app.command("quality")(run_quality)
    app.command("profile")(run_profile)
    app.command("costmodel")(run_costmodel)
    app.command("speculation")(run_speculation)
    app.command("peers")(run_peers)
    app.command("gpu")(run_gpu)
    try:
        app()
    except BatonError as error:
        print(f"baton-loadtest: {error.message}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
