"""A tiny Qwen3-MoE as a GGUF file, written with the `gguf` package: experts stacked, as llama.cpp's
converter lays them, in random blocks of any format; all else in float32."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from baton.model.fetch import LocalModel
from baton.model.ggml import GgmlType
from numpy.typing import NDArray

from support.ggml_blocks import random_blocks
from support.tiny_gguf import write_tokenizer
from support.tiny_tokenizer import VOCAB_SIZE

LAYERS, HEADS, KV_HEADS, EXPERTS, EXPERTS_PER_TOKEN = 2, 4, 2, 4, 2
SCALES_SPREAD = {GgmlType.Q8_0: 1e-3, GgmlType.Q4_K: 3e-4, GgmlType.Q6_K: 1e-4}
"""Under which weights are some tenths: a level times its scale, in K formats times another."""


def tiny_moe(
    path: Path,
    *,
    gate_up: GgmlType = GgmlType.F32,
    down: GgmlType = GgmlType.F32,
    hidden: int = 64,
    inner: int = 32,
    head_size: int = 16,
) -> LocalModel:
    """`gate_up` and `down`: formats of the experts' matrices; `inner`: the width of an expert."""
    writer = gguf.GGUFWriter(path, "qwen3moe")
    _write_shape(writer, hidden, inner, head_size)
    write_tokenizer(writer)
    random = np.random.default_rng(5)

    def matrix(name: str, *shape: int, gain: float = 1.0) -> None:
        values = random.standard_normal(shape, np.float32) * np.float32(gain * shape[-1] ** -0.5)
        writer.add_tensor(name, values)

    def vector(name: str, length: int) -> None:
        writer.add_tensor(name, 1 + 0.1 * random.standard_normal(length, np.float32))

    matrix("token_embd.weight", VOCAB_SIZE, hidden, gain=3.0)
    matrix("output.weight", VOCAB_SIZE, hidden, gain=3.0)
    vector("output_norm.weight", hidden)
    for layer in range(LAYERS):
        name = f"blk.{layer}."
        vector(name + "attn_norm.weight", hidden)
        vector(name + "ffn_norm.weight", hidden)
        vector(name + "attn_q_norm.weight", head_size)
        vector(name + "attn_k_norm.weight", head_size)
        matrix(name + "attn_q.weight", HEADS * head_size, hidden, gain=1.5)
        matrix(name + "attn_k.weight", KV_HEADS * head_size, hidden, gain=1.5)
        matrix(name + "attn_v.weight", KV_HEADS * head_size, hidden)
        matrix(name + "attn_output.weight", hidden, HEADS * head_size)
        matrix(name + "ffn_gate_inp.weight", EXPERTS, hidden, gain=4.0)  # so that it chooses
        _add_experts(writer, name + "ffn_gate_exps.weight", gate_up, (inner, hidden), layer)
        _add_experts(writer, name + "ffn_up_exps.weight", gate_up, (inner, hidden), 10 + layer)
        _add_experts(writer, name + "ffn_down_exps.weight", down, (hidden, inner), 20 + layer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return LocalModel(path, sha256(path.read_bytes()).hexdigest())


def _write_shape(writer: Any, hidden: int, inner: int, head_size: int) -> None:
    writer.add_context_length(256)
    writer.add_embedding_length(hidden)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(96)  # of dense layers, which it has none of
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(VOCAB_SIZE)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(EXPERTS_PER_TOKEN)
    writer.add_expert_feed_forward_length(inner)


def _add_experts(writer: Any, name: str, kind: GgmlType, shape: tuple[int, int], seed: int) -> None:
    rows, columns = shape
    stored: NDArray[Any]
    if kind is GgmlType.F32:
        random = np.random.default_rng(seed)
        stored = random.standard_normal((EXPERTS, *shape), np.float32)
        writer.add_tensor(name, stored * np.float32(columns**-0.5))
        return
    blocks = EXPERTS * rows * columns // kind.block_values
    stored = random_blocks(kind, blocks, seed=seed, spread=SCALES_SPREAD[kind])
    stored = stored.reshape(EXPERTS, rows, -1)
    writer.add_tensor(name, stored, raw_dtype=gguf.GGMLQuantizationType(kind.number))
