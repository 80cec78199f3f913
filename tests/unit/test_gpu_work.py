"""What kinds of kernels have to do: together what the roofline says of the whole step."""

import io
from dataclasses import replace

import pytest
from baton.engine.cuda.shapes import LLAMA_3_1_8B, QWEN3_30B_A3B
from baton.engine.quant.quantization import Quantization
from baton.model.config import ModelConfig
from baton_loadtest.gpu_report import GpuFigure, GpuReport, KernelFigure, gpu_json, kernels_table
from baton_loadtest.gpu_roofline import DeviceRates, decode_bytes, prefill_flop
from baton_loadtest.gpu_work import KernelWork, Step
from rich.console import Console

RATES = DeviceRates(copy_bytes_per_s=4e12, matrix_flop_per_s=8e14)
DENSE = ("qkv", "attention", "output", "gate and up", "down", "head")
MIXED = ("qkv", "attention", "output", "experts", "head")


@pytest.mark.parametrize(("config", "kinds"), [(LLAMA_3_1_8B, DENSE), (QWEN3_30B_A3B, MIXED)])
@pytest.mark.parametrize(
    ("quantization", "kv_dtype"),
    [(Quantization.BF16, "bfloat16"), (Quantization.INT4_WEIGHT_ONLY, "fp8")],
)
@pytest.mark.parametrize("requests", [1, 64])
def test_kinds_of_a_decode_step_read_what_the_step_reads(
    config: ModelConfig,
    kinds: tuple[str, ...],
    quantization: Quantization,
    kv_dtype: str,
    requests: int,
) -> None:
    work = KernelWork(config, quantization, kv_dtype, Step.decode(requests, 1_024), RATES)
    whole = decode_bytes(config, quantization, kv_dtype, requests=requests, context_tokens=1_024)
    assert sum(map(work.bytes_of, kinds)) == pytest.approx(whole)
    assert all(work.bytes_of(kind) > 0 for kind in kinds)
    assert work.least_s("qkv") == work.bytes_of("qkv") / 4e12


@pytest.mark.parametrize(("config", "kinds"), [(LLAMA_3_1_8B, DENSE), (QWEN3_30B_A3B, MIXED)])
def test_kinds_of_a_prompt_multiply_what_the_prompt_does(
    config: ModelConfig, kinds: tuple[str, ...]
) -> None:
    work = KernelWork(config, Quantization.BF16, "bfloat16", Step.prefill(2_048), RATES)
    assert sum(map(work.flop_of, kinds)) == pytest.approx(prefill_flop(config, 2_048))
    assert work.least_s("output") == work.flop_of("output") / 8e14


@pytest.mark.parametrize("kind", ["norms", "rope and KV store", "activation"])
@pytest.mark.parametrize("step", [Step.decode(8, 1_024), Step.prefill(2_048)])
def test_small_kinds_have_no_limit(kind: str, step: Step) -> None:
    work = KernelWork(LLAMA_3_1_8B, Quantization.BF16, "bfloat16", step, RATES)
    assert work.least_s(kind) == 0


def test_the_table_says_what_is_below_its_limit_and_what_lies_between_kernels() -> None:
    figure = GpuFigure("decode, 2 at once", 2, 500.0, 1_000.0)  # a step of 4 ms
    report = GpuReport(
        machine="a machine",
        commit="0a1b2c3",
        shape="llama-3.1-8b",
        quantization="bf16",
        kv_dtype="bfloat16",
        context_tokens=1_024,
        rates=RATES,
        figures=[figure, replace(figure, work="another")],
        kernels=[
            KernelFigure(figure.work, "down", 0.002, 0.0015),
            KernelFigure(figure.work, "norms", 0.001, 0.0),
        ],
    )
    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(kernels_table(report))
    lines = console.export_text().splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert rows == [
        [figure.work, "down", "2.000", "50%", "75%"],
        [figure.work, "norms", "1.000", "25%", ""],
        [figure.work, "all else", "1.000", "25%", ""],
    ]
    assert '"of_limit": 0.75' in gpu_json(report)
