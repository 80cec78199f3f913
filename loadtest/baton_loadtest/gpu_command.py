"""`baton-loadtest gpu`: the engine on this machine's GPU, against what its memory allows.

Without a CUDA device it says so and imports none of the device's code. Needs fewer packages than
the other commands, so it also runs as `python -m baton_loadtest.gpu_command`.
"""

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from baton.common.clock import SystemClock
from baton.common.errors import BatonError, ConfigError
from baton.engine.quant.kv import KvCacheDtype, kv_dtype_name
from baton.engine.quant.quantization import Quantization
from baton.model.config import ModelConfig
from rich.console import Console

from baton_loadtest.gpu_bench import EngineBench
from baton_loadtest.gpu_report import GpuFigure, GpuReport, gpu_json, gpu_table
from baton_loadtest.gpu_roofline import DeviceRates, decode_tokens_per_s, prefill_tokens_per_s
from baton_loadtest.machine import machine_line

RESULTS_DIR = Path("loadtest/results/local")
REQUESTS = (1, 8, 64)
PROMPTS = (2_048, 8_192)
BLOCK_TOKENS = 16
STEP_TOKENS = 8_192
"""Of a step: the longest prompt measured is one."""


class ShapeName(Enum):
    LLAMA_3_1_8B = "llama-3.1-8b"
    QWEN3_8B = "qwen3-8b"
    QWEN3_30B_A3B = "qwen3-30b-a3b"


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
    ] = 1_024,
    memory_fraction: Annotated[float, typer.Option(min=0.1, max=0.95)] = 0.9,
    results_dir: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULTS_DIR,
) -> None:
    """Measure decode at 1, 8 and 64 requests and prefill at 2k and 8k tokens."""
    require_device()
    # only now: a machine without a GPU need not have Triton
    from baton.engine.cuda.build import RunnerSpec
    from baton.engine.cuda.device import CudaDevice
    from baton.engine.cuda.shapes import SHAPES, DeviceRandomWeights

    from baton_loadtest.gpu_engine import gpu_engine
    from baton_loadtest.gpu_rates import measure_rates

    console, device, config = Console(), CudaDevice(), SHAPES[shape.value]
    kv_dtype = kv_dtype_name(
        quantization, kv_cache_dtype, block_size=BLOCK_TOKENS, head_size=config.head_size
    )

    def progress(what: str, done: int, wanted: int) -> None:
        console.print(f"{what}: {done} of {wanted}")

    rates = measure_rates(device.torch_device)
    device.release_cached()
    spec = RunnerSpec(
        quantization=quantization,
        kv_dtype=kv_dtype,
        block_size=BLOCK_TOKENS,
        rows_max=STEP_TOKENS,
        sequences_max=max(REQUESTS),
        memory_fraction=memory_fraction,
    )
    # random ones: the time of a step does not depend on its weights
    weights = DeviceRandomWeights(config, 0, device.torch_device)
    engine = gpu_engine(weights, config, spec, device, progress)
    bench = EngineBench(engine, config.vocab_size, SystemClock())

    figures = [
        *_decode_figures(bench, config, quantization, kv_dtype, rates, context),
        *_prefill_figures(bench, config, rates),
    ]
    report = _report(shape, quantization, kv_dtype, context, rates, figures)
    console.print(gpu_table(report))
    console.print(f"written to {save_gpu(report, results_dir, datetime.now(UTC))}")


def _decode_figures(
    bench: EngineBench,
    config: ModelConfig,
    quantization: Quantization,
    kv_dtype: str,
    rates: DeviceRates,
    context: int,
) -> list[GpuFigure]:
    def roofline(requests: int) -> float:
        return decode_tokens_per_s(
            config, quantization, kv_dtype, rates, requests=requests, context_tokens=context
        )

    return [
        GpuFigure(f"decode, {n} at once", bench.decode_tokens_per_s(n, context), roofline(n))
        for n in REQUESTS
    ]


def _prefill_figures(
    bench: EngineBench, config: ModelConfig, rates: DeviceRates
) -> list[GpuFigure]:
    return [
        GpuFigure(
            f"prefill, {tokens} tokens",
            bench.prefill_tokens_per_s(tokens),
            prefill_tokens_per_s(config, rates, tokens),
        )
        for tokens in PROMPTS
    ]


def require_device() -> None:
    """Raises ConfigError without a CUDA device."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ConfigError(["there is no torch here, and so no CUDA device to measure"]) from error
    if not torch.cuda.is_available():
        raise ConfigError(["there is no CUDA device to measure on this machine"])


def save_gpu(report: GpuReport, results_dir: Path, now: datetime) -> Path:
    """Writes JSON; returns its path."""
    results_dir.mkdir(parents=True, exist_ok=True)
    path = results_dir / f"gpu-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(gpu_json(report))
    return path


def _report(
    shape: ShapeName,
    quantization: Quantization,
    kv_dtype: str,
    context: int,
    rates: DeviceRates,
    figures: Sequence[GpuFigure],
) -> GpuReport:
    import torch
    import triton

    name = torch.cuda.get_device_name()
    return GpuReport(
        machine=f"{name}, torch {torch.__version__}, Triton {triton.__version__}, {machine_line()}",
        commit=_commit(),
        shape=shape.value,
        quantization=quantization.value,
        kv_dtype=kv_dtype,
        context_tokens=context,
        rates=rates,
        figures=figures,
    )


def _commit() -> str:
    """Of the working tree, marked where it has changes; "unknown" outside a repository."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def main() -> None:
    try:
        typer.run(run_gpu)
    except BatonError as error:
        print(f"baton-loadtest: {error.message}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
