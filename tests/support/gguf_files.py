"""Writes small GGUF files with the `gguf` package, an implementation that is not ours.

Tensors hold seeded random bytes: readers are compared by bytes, nobody computes with them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tokenizers
from baton.model.ggml import GgmlType

Value = bool | int | float | str | Sequence[bool] | Sequence[int] | Sequence[float] | Sequence[str]

TINY_LLAMA_KEYS: dict[str, Value] = {
    "block_count": 2,
    "context_length": 256,
    "embedding_length": 64,
    "feed_forward_length": 96,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.freq_base": 10_000.0,
}


def write_gguf_file(
    path: Path,
    *,
    architecture: str = "llama",
    shape_keys: Mapping[str, Value] | None = None,
    keys: Mapping[str, Value] | None = None,
    tensors: Mapping[str, tuple[tuple[int, ...], GgmlType]] | None = None,
    values: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> Path:
    """`shape_keys` get the architecture's prefix, `keys` are whole; a whole number is a uint32.

    `tensors`: torch-order shape and type, filled with random bytes. `values`: float32 tensors.
    """
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in (shape_keys or {}).items():
        _add(writer, f"{architecture}.{key}", value)
    for key, value in (keys or {}).items():
        _add(writer, key, value)
    random = np.random.default_rng(7)
    for name, (shape, kind) in (tensors or {}).items():
        row_bytes = shape[-1] // kind.block_values * kind.block_bytes
        stored = random.integers(0, 256, (*shape[:-1], row_bytes), dtype=np.uint8)
        writer.add_tensor(name, stored, raw_dtype=gguf.GGMLQuantizationType(kind.number))
    for name, array in (values or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: Any, key: str, value: Value) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, list(value))


def bpe_keys(tokenizer: tokenizers.Tokenizer, pre: str) -> dict[str, Value]:
    """Metadata of a byte-level BPE tokenizer, as llama.cpp's converter writes it."""
    described = json.loads(tokenizer.to_str())
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])]
    special = {token["content"] for token in described["added_tokens"]}
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in special else 1 for token in tokens],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in described["model"]["merges"]],
    }
