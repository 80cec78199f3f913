"""`baton-loadtest gpu`: the engine on this machine's GPU, against what its memory allows; then the
same work through router, prefill worker, hand-off and decode worker, against the engine alone.

Without a CUDA device it says so and imports none of the device's code. Needs fewer packages than
the other commands, so it also runs as `python -m baton_loadtest.gpu_command`.
"""

import asyncio
import gc
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from baton.common.clock import SystemClock
from baton.common.errors import BatonError, ConfigError
from baton.engine.devices import DeviceChoice
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import Quantization
from rich.console import Console
from rich.table import Table

from baton_loadtest.gpu_end_to_end import measure_end_to_end
from baton_loadtest.gpu_report import (
    GpuReport,
    end_to_end_table,
    gpu_json,
    gpu_table,
    kernels_table,
)
from baton_loadtest.gpu_spec import CONTEXT_TOKENS, PROMPTS, REQUESTS, GpuBenchSpec, ShapeName
from baton_loadtest.machine import checkout_commit, device_line

RESULTS_DIR = Path("loadtest/results/local")


def run_gpu(
    shape: Annotated[
        ShapeName, typer.Option(help="Of which model; its weights are random.")
    ] = ShapeName.LLAMA_3_1_8B,
    quantization: Annotated[
        Quantization, typer.Option(help="How linear layers hold their weights.")
    ] = Quantization.BF16,
    kv_cache_dtype: Annotated[
        KvCacheDtype, typer.Option(help="What KV blocks hold.")
    ] = KvCacheDtype.AUTO,
    context: Annotated[
        int, typer.Option(min=128, max=32_768, help="Tokens of each decoding request.")
    ] = CONTEXT_TOKENS,
    memory_fraction: Annotated[float, typer.Option(min=0.1, max=0.95)] = 0.9,
    commit: Annotated[
        str | None, typer.Option(help="Of this code, where there is no repository to ask.")
    ] = None,
    results_dir: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULTS_DIR,
) -> None:
    """Measure decode at 1, 8 and 64 requests and prefill at 2k and 8k tokens."""
    require_device()
    # only now: a machine without a GPU need not have Triton
    from baton.engine.cuda.shapes import SHAPES

    from baton_loadtest.gpu_alone import measure_alone, measure_kernels

    console = Console()
    spec = GpuBenchSpec(
        config=SHAPES[shape.value],
        quantization=quantization,
        kv_cache_dtype=kv_cache_dtype,
        memory_fraction=memory_fraction,
        requests=REQUESTS,
        context_tokens=context,
        prompts=PROMPTS,
    )
    rates, figures = measure_alone(spec, console.print)
    report = GpuReport(
        machine=device_line(),
        commit=commit or checkout_commit(),
        shape=shape.value,
        quantization=quantization.value,
        kv_dtype=spec.kv_dtype,
        context_tokens=context,
        rates=rates,
        figures=figures,
    )
    path = results_dir / f"gpu-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"

    def tell(table: Table) -> None:
        console.print(table)
        save_gpu(report, path)  # what is measured is kept, whatever comes of the rest
        _leave_device()

    tell(gpu_table(report))
    report = replace(report, kernels=measure_kernels(spec, rates, console.print))
    tell(kernels_table(report))
    found = asyncio.run(
        measure_end_to_end(
            spec,
            device=DeviceChoice.CUDA,
            log=path.with_suffix(".log"),
            clock=SystemClock(),
            listener=console.print,
        )
    )
    report = replace(report, end_to_end=found)
    tell(end_to_end_table(report, found))
    console.print(f"written to {path}")


def require_device() -> None:
    """Raises ConfigError without a CUDA device."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ConfigError(["there is no torch here, and so no CUDA device to measure"]) from error
    if not torch.cuda.is_available():
        raise ConfigError(["there is no CUDA device to measure on this machine"])


def save_gpu(report: GpuReport, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(gpu_json(report))


def _leave_device() -> None:
    """Give the memory of the engine alone to the workers that come."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def run_program(command: Callable[..., None]) -> None:
    """A command as a program of its own."""
    try:
        typer.run(command)
    except BatonError as error:
        print(f"baton-loadtest: {error.message}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run_program(run_gpu)
