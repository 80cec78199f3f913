"""config.json means to us what it means to transformers, for each family and its defaults."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from baton.model.card import read_config
from baton.model.config import Family, Llama3RopeScaling, ModelConfig
from baton.model.fetch import LocalModel
from support.smollm2 import smollm2_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

TINY: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
CONFIGS = {
    "llama": LlamaConfig(**TINY),
    "llama-head-size": LlamaConfig(**TINY, head_dim=32, tie_word_embeddings=True),
    "llama-biases": LlamaConfig(**TINY, attention_bias=True, mlp_bias=True),
    "llama3": LlamaConfig(**TINY, rope_parameters=LLAMA3),
    "mistral": MistralConfig(**TINY),
    "mistral-no-window": MistralConfig(**TINY, sliding_window=None, head_dim=32),
    "qwen2": Qwen2Config(**TINY),
    "qwen2-window": Qwen2Config(**TINY, use_sliding_window=True, max_window_layers=2),
    "qwen3": Qwen3Config(**TINY),
    "qwen3-window": Qwen3Config(
        **TINY, attention_bias=True, use_sliding_window=True, sliding_window=32, max_window_layers=1
    ),
}


def ours(directory: Path) -> ModelConfig:
    return read_config(LocalModel(directory, "0"))


@pytest.mark.parametrize("name", CONFIGS)
def test_numbers_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    theirs = CONFIGS[name]
    theirs.save_pretrained(tmp_path)
    config = ours(tmp_path)
    assert config.family.value == theirs.model_type
    assert config.vocab_size == theirs.vocab_size
    assert config.hidden_size == theirs.hidden_size
    assert config.intermediate_size == theirs.intermediate_size
    assert config.layers == theirs.num_hidden_layers
    assert config.heads == theirs.num_attention_heads
    assert config.kv_heads == theirs.num_key_value_heads
    assert config.context_length == theirs.max_position_embeddings
    assert config.rms_norm_eps == theirs.rms_norm_eps
    assert config.rope_theta == theirs.rope_parameters["rope_theta"]
    assert config.tied_embeddings == theirs.tie_word_embeddings
    kinds = getattr(theirs, "layer_types", None)
    if kinds is not None:
        sliding = tuple(i for i, kind in enumerate(kinds) if kind == "sliding_attention")
        assert config.sliding_layers == sliding
        assert config.sliding_window == (theirs.sliding_window if sliding else None)
    elif theirs.model_type == "mistral":
        assert config.sliding_window == theirs.sliding_window


@pytest.mark.parametrize("name", CONFIGS)
def test_flags_are_the_parameters_transformers_builds(tmp_path: Path, name: str) -> None:
    CONFIGS[name].save_pretrained(tmp_path)
    config = ours(tmp_path)
    build: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in build(CONFIGS[name]).named_parameters()}
    layer = "model.layers.0."
    assert config.qkv_bias == (f"{layer}self_attn.q_proj.bias" in shapes)
    assert config.output_bias == (f"{layer}self_attn.o_proj.bias" in shapes)
    assert config.mlp_bias == (f"{layer}mlp.up_proj.bias" in shapes)
    assert config.qk_norm == (f"{layer}self_attn.q_norm.weight" in shapes)
    assert shapes[f"{layer}self_attn.q_proj.weight"] == (
        config.heads * config.head_size,
        config.hidden_size,
    )


@pytest.mark.smollm2
def test_smollm2_has_the_numbers_transformers_reads_from_the_same_file() -> None:
    model = smollm2_model()
    theirs = AutoConfig.from_pretrained(model.path.parent, gguf_file=model.path.name)
    config = read_config(model)
    assert config == ModelConfig(
        family=Family.LLAMA,
        vocab_size=theirs.vocab_size,
        hidden_size=theirs.hidden_size,
        intermediate_size=theirs.intermediate_size,
        layers=theirs.num_hidden_layers,
        heads=theirs.num_attention_heads,
        kv_heads=theirs.num_key_value_heads,
        head_size=theirs.head_dim,
        context_length=theirs.max_position_embeddings,
        rms_norm_eps=theirs.rms_norm_eps,
        rope_theta=theirs.rope_parameters["rope_theta"],
        tied_embeddings=theirs.tie_word_embeddings,
    )


def test_an_older_and_a_newer_llama3_file_mean_the_same(tmp_path: Path) -> None:
    CONFIGS["llama3"].save_pretrained(tmp_path)
    newer = ours(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    rope = said.pop("rope_parameters")
    said |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    (tmp_path / "config.json").write_text(json.dumps(said))
    assert ours(tmp_path) == newer
    assert newer.rope_scaling == Llama3RopeScaling(32.0, 1.0, 4.0, 128)
