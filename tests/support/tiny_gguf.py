"""Writes a tiny model as a GGUF file with the `gguf` package, as llama.cpp's converter would."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from support.tiny_tokenizer import (
    BOS_ID,
    CHAT_TEMPLATE,
    EOS_ID,
    SPECIAL_TOKENS,
    tiny_tokenizer,
)

_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GLOBAL_NAMES = {"embed_tokens": "token_embd", "norm": "output_norm"}


def write_gguf(
    path: Path, config: Mapping[str, object], weights: Mapping[str, torch.Tensor]
) -> None:
    """`config` and `weights` in Hugging Face's names; all tensors in float32."""
    architecture = str(config["model_type"])
    writer = gguf.GGUFWriter(path, architecture)
    _write_shape(writer, config, weights)
    write_tokenizer(writer)
    for name, tensor in weights.items():
        if architecture == "llama" and (".q_proj." in name or ".k_proj." in name):
            kind = "num_attention_heads" if ".q_proj." in name else "num_key_value_heads"
            tensor = _interleave_rotary(tensor, int(str(config[kind])))
        writer.add_tensor(gguf_name(name), tensor.numpy())
    scaling = config.get("rope_scaling")
    if isinstance(scaling, dict):
        writer.add_tensor("rope_freqs.weight", _llama3_divisors(config, scaling))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(hf_name: str) -> str:
    """model.layers.2.mlp.up_proj.weight -> blk.2.ffn_up.weight"""
    if hf_name == "lm_head.weight":
        return "output.weight"
    stem, suffix = hf_name.removeprefix("model.").rsplit(".", 1)
    if stem in _GLOBAL_NAMES:
        return f"{_GLOBAL_NAMES[stem]}.{suffix}"
    _, index, part = stem.split(".", 2)
    return f"blk.{index}.{_LAYER_NAMES[part]}.{suffix}"


def _write_shape(writer: Any, config: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
    heads = config["num_attention_heads"]
    head_size = len(weights["model.layers.0.self_attn.q_proj.weight"]) // heads
    writer.add_name("tiny")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def write_tokenizer(writer: Any) -> None:
    tokenizer = tiny_tokenizer()
    merges = _merges(tokenizer.to_str())
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    tokens = [token for token, _ in vocabulary]
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in SPECIAL_TOKENS else normal for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(BOS_ID)
    writer.add_eos_token_id(EOS_ID)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _merges(tokenizer_json: str) -> list[str]:
    pairs: list[list[str]] = json.loads(tokenizer_json)["model"]["merges"]
    return [" ".join(pair) for pair in pairs]


def _interleave_rotary(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp's converter: the two rotary halves of each head become pairs."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape).contiguous()


def _llama3_divisors(config: Mapping[str, Any], scaling: Mapping[str, Any]) -> np.ndarray:
    """The converter's rope_freqs: how much slower each rotary frequency turns, [head_size / 2]."""
    head_size = config["hidden_size"] // config["num_attention_heads"]
    old, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    divisors = []
    for exponent in range(0, head_size, 2):
        wavelength = 2 * math.pi * config["rope_theta"] ** (exponent / head_size)
        if wavelength < old / high:
            divisors.append(1.0)
        elif wavelength > old / low:
            divisors.append(factor)
        else:
            smooth = (old / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors, dtype=np.float32)
