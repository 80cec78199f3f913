"""On a CUDA device: the compiled kernels and real graphs say what transformers says."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from baton.engine.batch import BatchSlice, SampleRequest, StepBatch
from baton.engine.params import SamplingParams
from baton.engine.quant.quantization import Quantization
from baton.engine.weights.open import open_weights
from baton.model.card import read_config
from baton.model.fetch import LocalModel
from baton.model.ggml import GgmlType
from support.runner_steps import Job, run_jobs, shuffled_tables
from support.tiny_models import HfConfig, tiny_model
from support.tiny_moe import tiny_moe

if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

from baton.engine.cuda.build import CudaParts, RunnerSpec, build_cuda_runner
from baton.engine.cuda.device import CudaDevice
from support.transformers_oracle import Oracle

SHAPE: HfConfig = {  # a real model's, but for depth and vocabulary
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
}
MARGIN_MIN = 0.01  # of logits: below it rounding may decide
TOKENS = 24


def prompts() -> list[list[int]]:
    return [
        [(7 * i + salt) % 250 + 3 for i in range(length)] for salt, length in ((0, 300), (5, 17))
    ]


def parts(model: LocalModel, quantization: Quantization, kv_dtype: str) -> CudaParts:
    config = read_config(model)
    spec = RunnerSpec(
        quantization=quantization,
        kv_dtype=kv_dtype,
        block_size=16,
        rows_max=512,
        sequences_max=8,
        memory_fraction=0.3,
    )
    with open_weights(model, config) as source:
        return build_cuda_runner(source, config, spec, CudaDevice(), lambda what, done, of: None)


@pytest.fixture(autouse=True)
def _leave_no_memory_behind() -> Iterator[None]:
    yield
    for name in ("last_exc", "last_value", "last_traceback", "last_type"):
        if hasattr(sys, name):  # by these a failed test keeps its frames, and they their cache
            delattr(sys, name)
    gc.collect()
    torch.cuda.empty_cache()


def require_parity(model: LocalModel, prompts: list[list[int]]) -> None:
    runner = parts(model, Quantization.NONE, "float32").runner
    tables = shuffled_tables(64, 16, [len(prompt) + TOKENS for prompt in prompts])
    jobs = [
        Job(prompt, table, TOKENS, chunk=128, first_step=index)
        for index, (prompt, table) in enumerate(zip(prompts, tables, strict=True))
    ]
    oracle = Oracle(model)
    for prompt, found in zip(prompts, run_jobs(runner, jobs), strict=True):
        expected = oracle.following(prompt, found)  # `greedy` takes minutes on one core
        assert len(found) == TOKENS
        assert found == expected.tokens, f"the smallest lead is {expected.margin}"
        assert expected.margin > MARGIN_MIN, "choose another seed: rounding would decide"


@pytest.mark.parametrize("variant", ["llama3", "qwen3", "mistral"])
def test_greedy_tokens_are_those_of_transformers(variant: str, tmp_path: Path) -> None:
    require_parity(tiny_model(variant, tmp_path, shape=SHAPE), prompts())


def test_so_are_those_of_a_mixture_out_of_a_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    shape = {"hidden": 256, "inner": 768, "head_size": 64}  # 768: what transformers takes it for
    model = tiny_moe(path, gate_up=GgmlType.Q4_K, down=GgmlType.Q6_K, **shape)
    long = [(7 * i + 2) % 250 + 3 for i in range(200)]
    require_parity(model, [long, prompts()[1]])


@pytest.mark.parametrize(
    ("quantization", "kv_dtype", "near"),
    [
        (Quantization.BF16, "bfloat16", 0.1),
        (Quantization.FP8, "fp8", 0.5),
        (Quantization.INT8, "int8", 0.5),
        (Quantization.INT8_WEIGHT_ONLY, "bfloat16", 0.2),
        (Quantization.INT4_WEIGHT_ONLY, "bfloat16", 1.5),
    ],
)
def test_rounded_schemes_stay_near_transformers(
    quantization: Quantization, kv_dtype: str, near: float, tmp_path: Path
) -> None:
    model = tiny_model("llama3", tmp_path, shape=SHAPE)
    runner = parts(model, quantization, kv_dtype).runner
    prompt = prompts()[0]
    sample = SampleRequest(SamplingParams(1, temperature=0.0, logprobs=20), prompt, (), ())
    table = list(range(len(prompt) // 16 + 1))
    (found,) = runner.run(StepBatch((BatchSlice("r", prompt, 0, table, sample),)))
    exact = torch.log_softmax(Oracle(model).logits(prompt)[-1], -1)
    assert found.error is None
    errors = [abs(top.logprob - float(exact[top.token_id])) for top in found.samples[0].top]
    assert sum(errors) / len(errors) < near
