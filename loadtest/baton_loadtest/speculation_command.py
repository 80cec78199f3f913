"""`baton-loadtest speculation`: what guessing ahead gains, as a table and JSON."""

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
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import Quantization
from baton.engine.runner import build_runner
from baton.model.card import read_config
from baton.model.grammar import Grammars
from baton.model.tokenizer import load_tokenizer
from rich.console import Console
from rich.table import Table

from baton_loadtest.machine import machine_line, usable_cores
from baton_loadtest.quality_text import help_topics, spread_windows
from baton_loadtest.speculation_run import (
    ECHO_TOKENS,
    PASSAGE_TOKENS,
    Forms,
    Kind,
    SpeculationOptions,
    SpeculationRow,
    measure_speculation,
)

BATCHES = (1, 8)
BLOCK_TOKENS = 16
RESULTS_DIR = Path("loadtest/results/local")
COLUMNS = ("text", "batch", "off tok/s", "on tok/s", "gain", "guesses a token", "right")
CAPTION = (
    "repeating: a passage and its first words again, greedy. ordinary: a passage, drawn. schema: "
    "four records that follow one, greedy; what is certain is guessed. tok/s: of decode steps, "
    "median round. The answers are the same, token by token."
)


def run_speculation(
    model: Annotated[str, typer.Option(help="Reference, as for `baton serve`.")] = DEFAULT_MODEL,
    quantization: Annotated[
        Quantization, typer.Option(help="How linear layers hold their weights.")
    ] = Quantization.INT8,
    kv_cache_dtype: Annotated[
        KvCacheDtype, typer.Option(help="What KV blocks hold.")
    ] = KvCacheDtype.AUTO,
    tokens: Annotated[int, typer.Option(min=8, max=1_024, help="Of each answer.")] = 128,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="With and without, in turn.")] = 5,
    guesses_max: Annotated[int, typer.Option(min=1, max=16, help="Per request and step.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: all cores.")] = None,
    results_dir: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULTS_DIR,
) -> None:
    """Measure guessing: the same requests with and without guesses, in turn."""
    console = Console()
    local = pull(model, default_cache_dir(os.environ))
    config = read_config(local)
    most = max(BATCHES)
    blocks = most * (-(-(PASSAGE_TOKENS + ECHO_TOKENS + tokens) // BLOCK_TOKENS) + 2)
    runner = build_runner(
        local,
        config,
        quantization=quantization,
        kv=kv_cache_dtype,
        block_count=blocks,
        block_size=BLOCK_TOKENS,
        threads=threads or usable_cores(),
    )
    tokenizer = load_tokenizer(local)
    grammars = Grammars(tokenizer, vocab_size=config.vocab_size)
    forms = Forms(grammars.constraint, tokenizer.eos_token_ids)
    ids = tokenizer.encode(help_topics(), add_special=False, parse_special=False)
    passages = spread_windows(ids, tokens=most * PASSAGE_TOKENS, window_tokens=PASSAGE_TOKENS)
    rows: list[SpeculationRow] = []
    for kind in Kind:
        for batch in BATCHES:
            console.print(f"{kind.value}, {batch} at once")
            options = SpeculationOptions(batch, tokens, rounds, guesses_max)
            clock = SystemClock()
            rows.append(measure_speculation(runner, kind, passages, forms, options, clock))
    title = f"{served_name(model)}, quantization {quantization.value}, KV {kv_cache_dtype.value}"
    console.print(speculation_table(title, machine_line(), rows))
    found = {"machine": machine_line(), "model": title, "rows": [asdict(row) for row in rows]}
    results_dir.mkdir(parents=True, exist_ok=True)
    path = results_dir / f"speculation-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    console.print(f"written to {path}")


def speculation_table(title: str, machine: str, rows: Sequence[SpeculationRow]) -> Table:
    drawn = Table(*COLUMNS, title=title, caption=f"{machine}\n{CAPTION}", title_justify="left")
    for row in rows:
        drawn.add_row(*speculation_cells(row))
    return drawn


def speculation_cells(row: SpeculationRow) -> tuple[str, ...]:
    return (
        row.kind,
        str(row.batch),
        f"{row.plain_tokens_per_s:.0f}",
        f"{row.guessing_tokens_per_s:.0f}",
        f"{row.gain:.2f}",
        f"{row.guesses_made / row.tokens:.2f}",
        "" if row.acceptance is None else f"{row.acceptance:.0%}",
    )
