"""Tiny random-weight models on disk, one per family, as real files: `tiny_model("qwen3", path)`.

Written without transformers, whose import takes seconds; the parity tests read the same files with
it. Weights are seeded and scaled so that attention picks and greedy choices are far from ties.
"""

import json
import math
from hashlib import sha256
from pathlib import Path

import torch
from baton.model.config import Family
from baton.model.fetch import LocalModel
from safetensors.torch import save_file

from support.tiny_gguf import write_gguf
from support.tiny_tokenizer import BOS_ID, EOS_ID, VOCAB_SIZE, save_tokenizer

HfConfig = dict[str, object]

_SHAPE: HfConfig = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "bos_token_id": BOS_ID,
    "eos_token_id": EOS_ID,
    "torch_dtype": "float32",
    "tie_word_embeddings": False,
}
_LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
# A variant per thing that differs between families. The plain family names are variants too.
TINY_MODELS: dict[str, HfConfig] = {
    "llama": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "tie_word_embeddings": True,
    },
    "llama3": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "rope_scaling": _LLAMA3_SCALING,
    },
    "llama-bias": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "attention_bias": True,
        "mlp_bias": True,
    },
    "mistral": {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "sliding_window": 20,
        "head_dim": 16,
    },
    "qwen2": {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "use_sliding_window": False,
        "tie_word_embeddings": True,
    },
    "qwen3": {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "head_dim": 24,  # not hidden_size / heads, as in the real ones
        "use_sliding_window": False,
    },
}


def tiny_model(
    variant: Family | str,
    directory: Path,
    *,
    gguf: bool = False,
    seed: int = 0,
    shape: HfConfig | None = None,
) -> LocalModel:
    """A model of a family, or of a variant of TINY_MODELS, below `directory`.

    `shape`: instead of what config.json says there.

    A Hugging Face directory, or one .gguf file (not for "mistral": the format has no sliding window
    for its architecture, nor for "llama-bias": no linear scaling divisors are needed there).
    """
    name = variant.value if isinstance(variant, Family) else variant
    config = hf_config(name) | (shape or {})
    weights = _weights(config, seed)
    if gguf:
        path = directory / f"tiny-{name}.gguf"
        write_gguf(path, config, weights)
        return LocalModel(path, sha256(path.read_bytes()).hexdigest())
    path = directory / f"tiny-{name}"
    path.mkdir(parents=True)
    save_tokenizer(path)
    (path / "config.json").write_text(json.dumps(config, indent=2))
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [EOS_ID]}))
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    identity = (path / "model.safetensors").read_bytes() + (path / "config.json").read_bytes()
    return LocalModel(path, sha256(identity).hexdigest())


def hf_config(variant: str) -> HfConfig:
    """What config.json of a variant says."""
    return _SHAPE | TINY_MODELS[variant]


def _head_size(config: HfConfig) -> int:
    explicit = config.get("head_dim")
    if isinstance(explicit, int):
        return explicit
    return _whole(config, "hidden_size") // _whole(config, "num_attention_heads")


def _weights(config: HfConfig, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def matrix(rows: int, columns: int, gain: float = 1.0) -> torch.Tensor:
        tensor = torch.randn(rows, columns, generator=generator)
        return tensor.mul_(gain / math.sqrt(columns))

    def vector(length: int, middle: float, spread: float) -> torch.Tensor:
        return torch.randn(length, generator=generator) * spread + middle

    hidden, inner = _whole(config, "hidden_size"), _whole(config, "intermediate_size")
    head_size = _head_size(config)
    q = _whole(config, "num_attention_heads") * head_size
    kv = _whole(config, "num_key_value_heads") * head_size
    # gain of the table: logits spread by 3, so the best token leads by half a unit or so
    weights = {"model.embed_tokens.weight": matrix(VOCAB_SIZE, hidden, 3.0)}
    weights["model.norm.weight"] = vector(hidden, 1.0, 0.1)
    if not config["tie_word_embeddings"]:
        weights["lm_head.weight"] = matrix(VOCAB_SIZE, hidden, 3.0)
    qwen2, qwen3 = config["model_type"] == "qwen2", config["model_type"] == "qwen3"
    for index in range(_whole(config, "num_hidden_layers")):
        layer = f"model.layers.{index}."
        attention, mlp = layer + "self_attn.", layer + "mlp."
        weights[layer + "input_layernorm.weight"] = vector(hidden, 1.0, 0.1)
        weights[layer + "post_attention_layernorm.weight"] = vector(hidden, 1.0, 0.1)
        # gain of q and k: scores spread by 2, so that attention picks
        weights[attention + "q_proj.weight"] = matrix(q, hidden, 1.5)
        weights[attention + "k_proj.weight"] = matrix(kv, hidden, 1.5)
        weights[attention + "v_proj.weight"] = matrix(kv, hidden)
        weights[attention + "o_proj.weight"] = matrix(hidden, q)
        weights[mlp + "gate_proj.weight"] = matrix(inner, hidden)
        weights[mlp + "up_proj.weight"] = matrix(inner, hidden)
        weights[mlp + "down_proj.weight"] = matrix(hidden, inner)
        if qwen3:
            weights[attention + "q_norm.weight"] = vector(head_size, 1.5, 0.2)
            weights[attention + "k_norm.weight"] = vector(head_size, 1.5, 0.2)
        if qwen2 or config.get("attention_bias"):
            weights[attention + "q_proj.bias"] = vector(q, 0.0, 0.5)
            weights[attention + "k_proj.bias"] = vector(kv, 0.0, 0.5)
            weights[attention + "v_proj.bias"] = vector(kv, 0.0, 0.5)
        if config.get("attention_bias"):
            weights[attention + "o_proj.bias"] = vector(hidden, 0.0, 0.5)
        if config.get("mlp_bias"):
            weights[mlp + "gate_proj.bias"] = vector(inner, 0.0, 0.5)
            weights[mlp + "up_proj.bias"] = vector(inner, 0.0, 0.5)
            weights[mlp + "down_proj.bias"] = vector(hidden, 0.0, 0.5)
    return weights


def _whole(config: HfConfig, key: str) -> int:
    value = config[key]
    assert isinstance(value, int)
    return value
