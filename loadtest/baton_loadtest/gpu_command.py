"""`baton-loadtest gpu`: the engine on this machine's GPU, against what its memory allows; then the
same work through router, prefill worker, hand-off and decode worker, against the engine alone.

Without a CUDA device it says so and imports none of the device's code. Needs fewer packages than
the other commands, so it also runs as `python -m baton_loadtest.gpu_command`.
"""

import asyncio
import gc
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
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

from baton_loadtest.gpu_end_to_end import measure_end_to_end
from baton_loadtest.gpu_report import GpuReport, GpuTable, read_gpu_json
from baton_loadtest.gpu_result import GpuResult, of_one_case
from baton_loadtest.gpu_spec import CONTEXT_TOKENS, PROMPTS, REQUESTS, GpuBenchSpec, ShapeName
from baton_loadtest.gpu_tables import Fill, fill_each
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
    skip: Annotated[
        list[GpuTable] | None, typer.Option(help="A table to leave out; may be given again.")
    ] = None,
    onto: Annotated[
        Path | None, typer.Option(help="A result of this case to go on with, or to begin.")
    ] = None,
    results_dir: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULTS_DIR,
) -> None:
    """Measure decode at 1, 8 and 64 requests and prefill at 2k and 8k tokens."""
    require_device()
    # only now: a machine without a GPU need not have Triton
    from baton.engine.cuda.shapes import SHAPES

    spec = GpuBenchSpec(
        config=SHAPES[shape.value],
        quantization=quantization,
        kv_cache_dtype=kv_cache_dtype,
        memory_fraction=memory_fraction,
        requests=REQUESTS,
        context_tokens=context,
        prompts=PROMPTS,
    )
    path = onto or results_dir / f"gpu-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    result = _begun(path, spec, shape, commit or checkout_commit())
    console = Console()
    fills = _fills(spec, result, console)
    asked = {table: fill for table, fill in fills.items() if table not in (skip or ())}
    whole = fill_each(asked, result, console, _leave_device)
    print(f"written to {path}", flush=True)
    if not whole:
        raise BatonError("not every table is whole: see above")


def _begun(path: Path, spec: GpuBenchSpec, shape: ShapeName, commit: str) -> GpuResult:
    """With the device's rates, which all else is held against. Raises ConfigError where `path`
    has a result of something else."""
    from baton_loadtest.gpu_alone import device_rates

    kept = read_gpu_json(path.read_text()) if path.exists() else None
    asked = GpuReport(
        machine=device_line(),
        commit=commit,
        shape=shape.value,
        quantization=spec.quantization.value,
        kv_dtype=spec.kv_dtype,
        context_tokens=spec.context_tokens,
        rates=kept.rates if kept else device_rates(),
    )
    return GpuResult(of_one_case(kept, asked) if kept else asked, path)


def _fills(spec: GpuBenchSpec, result: GpuResult, console: Console) -> dict[GpuTable, Fill]:
    """Each tells and keeps every figure as it comes."""
    from baton_loadtest.gpu_alone import measure_alone, measure_kernels

    rates = result.report.rates

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False)  # brackets of an error are no markup

    def alone() -> None:
        for figure in measure_alone(spec, rates, say):
            result.add_figure(figure)
            say(f"{figure.work}: {figure.tokens_per_s:,.0f} tok/s, {figure.of_roofline:.0%}")

    def kernels() -> None:
        for kernel in measure_kernels(spec, rates, say):
            result.add_kernel(kernel)
            say(f"{kernel.work}: {kernel.kernel}: {kernel.seconds * 1e3:.3f} ms")

    def end_to_end() -> None:
        measured = measure_end_to_end(
            spec,
            device=DeviceChoice.CUDA,
            log=result.path.with_suffix(".log"),
            clock=SystemClock(),
            listener=say,
            found=result.put_end_to_end,
        )
        asyncio.run(measured)

    return {
        GpuTable.ALONE: alone,
        GpuTable.KERNELS: kernels,
        GpuTable.END_TO_END: end_to_end,
    }


def require_device() -> None:
    """Raises ConfigError without a CUDA device."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ConfigError(["there is no torch here, and so no CUDA device to measure"]) from error
    if not torch.cuda.is_available():
        raise ConfigError(["there is no CUDA device to measure on this machine"])


def _leave_device() -> None:
    """Give the memory of one table to the next, and to the workers that come."""
    import torch

    gc.collect()
    with suppress(RuntimeError):  # after some errors a device answers this process no more
        torch.cuda.empty_cache()


def run_program(command: Callable[..., None]) -> None:
    """A command as a program of its own."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app()
    except BatonError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error)  # our own line does not say what broke
        print(f"baton-loadtest: {error.message}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run_program(run_gpu)
