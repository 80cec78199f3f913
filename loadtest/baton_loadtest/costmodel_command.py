"""`baton-loadtest costmodel`: predicted against measured step durations, as a table and JSON."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from baton.cli.pull import default_cache_dir, pull
from baton.cli.stack import DEFAULT_MODEL, served_name
from baton.common.clock import SystemClock
from baton.engine.quant.quantization import Quantization
from baton.engine.runner import build_runner
from baton.model.card import read_config
from rich.console import Console
from rich.table import Table

from baton_loadtest.costmodel_run import LIVE_MAX, OUTPUT_TOKENS, PROMPT_TOKENS, mixed_steps
from baton_loadtest.costmodel_stats import KindRow, judge_by_kind, predict_second_half
from baton_loadtest.local_engine import local_engine
from baton_loadtest.machine import machine_line, usable_cores

BLOCK_TOKENS = 16
BLOCKS = LIVE_MAX * (max(PROMPT_TOKENS) + max(OUTPUT_TOKENS)) // BLOCK_TOKENS + LIVE_MAX
"""Room for every request at once: what a preemption costs is no law of a step."""

RESULTS_DIR = Path("loadtest/results/local")
COLUMNS = ("steps of the second half", "n", "measured", "predicted", "error", "online error")

CAPTION = (
    "predicted: by the first half alone. error: mean of |predicted - measured| / measured. online "
    "error: of a model that goes on learning, as in a worker."
)


def run_costmodel(
    model: Annotated[str, typer.Option(help="Reference, as for `baton serve`.")] = DEFAULT_MODEL,
    quantization: Annotated[
        Quantization, typer.Option(help="How linear layers hold their weights.")
    ] = Quantization.NONE,
    steps: Annotated[int, typer.Option(min=50, max=100_000, help="To run.")] = 1_200,
    seed: Annotated[int, typer.Option(min=0, max=1_000_000, help="Of the load.")] = 0,
    results_dir: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULTS_DIR,
) -> None:
    """Run an engine under a mixed load, learn half of its steps, predict the others."""
    console, clock = Console(), SystemClock()
    local = pull(model, default_cache_dir(os.environ))
    config = read_config(local)
    runner = build_runner(
        local,
        config,
        quantization=quantization,
        block_count=BLOCKS,
        block_size=BLOCK_TOKENS,
        threads=usable_cores(),
    )
    measured = mixed_steps(
        local_engine(runner), steps, vocab_size=config.vocab_size, clock=clock, seed=seed
    )
    coefficients, predictions = predict_second_half(measured)
    rows = judge_by_kind(predictions)
    title = f"{served_name(model)}, quantization {quantization.value}"
    console.print(costmodel_table(title, machine_line(), rows))
    console.print(asdict(coefficients))
    found = {
        "machine": machine_line(),
        "model": title,
        "coefficients": asdict(coefficients),
        "rows": [asdict(row) for row in rows],
    }
    results_dir.mkdir(parents=True, exist_ok=True)
    path = results_dir / f"costmodel-{quantization.value}-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    console.print(f"written to {path}")


def costmodel_table(title: str, machine: str, rows: Sequence[KindRow]) -> Table:
    drawn = Table(title=title, caption=f"{machine}\n{CAPTION}", title_justify="left")
    for index, column in enumerate(COLUMNS):
        drawn.add_column(column, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in rows:
        drawn.add_row(*costmodel_cells(row))
    return drawn


def costmodel_cells(row: KindRow) -> tuple[str, ...]:
    return (
        row.kind,
        str(row.steps),
        f"{row.measured_mean_s * 1000:.2f} ms",
        f"{row.predicted_mean_s * 1000:.2f} ms",
        f"{row.error_mean:.1%}",
        f"{row.online_error_mean:.1%}",
    )
