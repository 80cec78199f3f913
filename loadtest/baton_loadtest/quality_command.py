"""`baton-loadtest quality`: options in, table and JSON out."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import torch
import typer
from baton.cli.pull import default_cache_dir, pull
from baton.cli.stack import DEFAULT_MODEL, served_name
from baton.common.errors import ConfigError
from baton.engine.devices import DeviceChoice, choose_device
from baton.engine.quant.quantization import Quantization
from baton.model.card import read_config
from baton.model.tokenizer import load_tokenizer
from rich.console import Console

from baton_loadtest.machine import checkout_commit, device_line, machine_line, usable_cores
from baton_loadtest.quality import (
    CPU_VARIANTS,
    DEVICE_VARIANTS,
    PROMPT_TOKENS,
    Loader,
    Variant,
    measure_quality,
)
from baton_loadtest.quality_cpu import cpu_loader
from baton_loadtest.quality_report import QualityReport, quality_json, quality_table
from baton_loadtest.quality_text import SOURCE, help_topics, spread_windows

TOKENS_MAX = 1_000_000
"""Some minutes per scheme and million: more digits than a ratio needs."""

RESULTS_DIR = Path("loadtest/results/local")


def run_quality(
    model: Annotated[str, typer.Option(help="Reference, as for `baton serve`.")] = DEFAULT_MODEL,
    tokens: Annotated[int, typer.Option(min=1, max=TOKENS_MAX, help="To score.")] = 4_096,
    window: Annotated[
        int, typer.Option(min=PROMPT_TOKENS, max=8_192, help="Tokens read in one piece.")
    ] = 512,
    scheme: Annotated[
        list[Quantization] | None, typer.Option(help="One or several; default: all.")
    ] = None,
    device: Annotated[
        DeviceChoice, typer.Option(help="Where the schemes compute; the reference never moves.")
    ] = DeviceChoice.CPU,
    commit: Annotated[
        str | None, typer.Option(help="Of this code, where there is no repository to ask.")
    ] = None,
    results_dir: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULTS_DIR,
) -> None:
    """Compare every compute scheme's answers, and 8-bit KV's, with float32's on the processor, on a
    text that ships with Python."""
    console, chosen = Console(), choose_device(device)
    threads = usable_cores()
    torch.set_num_threads(threads)
    local = pull(model, default_cache_dir(os.environ))
    config = read_config(local)
    if window > config.context_length:
        raise ConfigError([f"window: the model reads at most {config.context_length} tokens"])
    ids = load_tokenizer(local).encode(help_topics(), add_special=False, parse_special=False)
    windows = spread_windows(ids, tokens=tokens, window_tokens=window)
    load: Loader = cpu_loader(local, config, window_tokens=window, threads=threads)
    reference, variants, machine = load(Variant(Quantization.NONE)), CPU_VARIANTS, machine_line()
    if chosen is DeviceChoice.CUDA:
        # only now: a machine without a GPU need not have Triton
        from baton.engine.cuda.device import CudaDevice

        from baton_loadtest.quality_device import device_loader

        load = device_loader(local, config, CudaDevice, window_tokens=window)
        variants, machine = DEVICE_VARIANTS, device_line()
    rows = measure_quality(
        reference,
        load,
        tuple(variant for variant in variants if not scheme or variant.scheme in scheme),
        windows,
        lambda text: console.print(text),
    )
    report = QualityReport(
        machine=machine,
        model=served_name(model),
        text=SOURCE,
        python=platform.python_version(),
        tokens=len(windows) * (window - 1),
        window_tokens=window,
        rows=rows,
        device=chosen.value,
        commit=commit or checkout_commit(),
    )
    console.print(quality_table(report))
    results_dir.mkdir(parents=True, exist_ok=True)
    path = results_dir / f"quality-{report.model}-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    path.write_text(quality_json(report))
    console.print(f"written to {path}")
