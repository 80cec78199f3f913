"""The roofline's arithmetic, against figures worked out by hand from the published shapes."""

from dataclasses import replace

import pytest
from baton.engine.cuda.shapes import LLAMA_3_1_8B, QWEN3_30B_A3B, SHAPES
from baton.engine.quant.quantization import CUDA_SCHEMES, Quantization
from baton.model.config import step_weight_count, weight_count
from baton_loadtest.gpu_roofline import (
    WEIGHT_BYTES,
    DeviceRates,
    decode_bytes,
    decode_tokens_per_s,
    kv_bytes_per_token,
    prefill_flop,
    prefill_tokens_per_s,
)

H200 = DeviceRates(copy_bytes_per_s=4.3e12, matrix_flop_per_s=790e12)
"""As measured on such a machine."""


@pytest.mark.parametrize(("requests", "expected"), [(1, 284), (8, 2_139), (64, 11_661)])
def test_llama_decodes_as_fast_as_its_weights_and_kv_are_read(requests: int, expected: int) -> None:
    found = decode_tokens_per_s(
        LLAMA_3_1_8B,
        Quantization.BF16,
        "bfloat16",
        H200,
        requests=requests,
        context_tokens=1_024,
    )
    assert round(found) == expected


def test_shapes_have_the_parameters_their_names_say() -> None:
    """Billions, with the embedding table."""
    tables = {name: config.vocab_size * config.hidden_size for name, config in SHAPES.items()}
    counts = {name: (weight_count(config) + tables[name]) / 1e9 for name, config in SHAPES.items()}
    assert counts["llama-3.1-8b"] == pytest.approx(8.03, abs=0.01)
    assert counts["qwen3-8b"] == pytest.approx(8.19, abs=0.01)
    assert counts["qwen3-30b-a3b"] == pytest.approx(30.5, abs=0.1)


def test_a_token_of_a_mixture_reads_its_own_experts() -> None:
    active = step_weight_count(QWEN3_30B_A3B, 1)
    table = QWEN3_30B_A3B.vocab_size * QWEN3_30B_A3B.hidden_size
    assert (active + table) / 1e9 == pytest.approx(3.35, abs=0.05)  # "A3B"
    few, many = (step_weight_count(QWEN3_30B_A3B, rows) for rows in (8, 10_000))
    assert active < few < many
    assert many == pytest.approx(weight_count(QWEN3_30B_A3B))


def test_a_dense_model_reads_all_its_weights_in_every_step() -> None:
    for rows in (1, 64):
        assert step_weight_count(LLAMA_3_1_8B, rows) == weight_count(LLAMA_3_1_8B)


def test_kv_of_a_token_is_that_of_all_layers() -> None:
    assert kv_bytes_per_token(LLAMA_3_1_8B, "bfloat16") == 131_072
    assert kv_bytes_per_token(LLAMA_3_1_8B, "fp8") == 2 * 32 * 8 * (128 + 4)


@pytest.mark.parametrize("quantization", CUDA_SCHEMES)
def test_fewer_bits_are_read_faster_but_the_head_keeps_eight(quantization: Quantization) -> None:
    config = replace(LLAMA_3_1_8B, layers=1)
    head = config.vocab_size * config.hidden_size
    found = decode_bytes(config, quantization, "fp8", requests=1, context_tokens=0)
    layers = (weight_count(config) - head) * WEIGHT_BYTES[quantization]
    assert found == layers + head * max(1.0, WEIGHT_BYTES[quantization])


def test_a_prompt_is_bound_by_its_products() -> None:
    tokens = 2_048
    layers = weight_count(LLAMA_3_1_8B) - LLAMA_3_1_8B.vocab_size * LLAMA_3_1_8B.hidden_size
    products = 2 * layers * tokens
    assert products < prefill_flop(LLAMA_3_1_8B, tokens) < 1.06 * products
    assert prefill_tokens_per_s(LLAMA_3_1_8B, H200, tokens) == pytest.approx(54_100, rel=0.02)
    # attention grows with the square: a longer prompt is slower by the token
    assert prefill_tokens_per_s(LLAMA_3_1_8B, H200, 8_192) < 50_000
