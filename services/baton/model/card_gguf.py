"""ModelConfig from GGUF metadata.

Knows the metadata's keys; reads the biases and norms a model has off its tensor table, since the
metadata is silent about them. Knows no tokens and no other tensor's values than rope_freqs.
"""

import numpy as np

from baton.model.config import Family, LinearRopeScaling, ModelConfig
from baton.model.fields import Fields
from baton.model.ggml import GgmlType
from baton.model.gguf import GgufFile

ROPE_THETA = 10_000.0  # where a file says nothing, in GGUF as in transformers
ARCHITECTURES = {family.value.replace("_", ""): family for family in Family}
"""By llama.cpp's names, which have no underscores."""
WINDOWED = (Family.LLAMA, Family.MISTRAL)
"""Architectures under which Mistral comes; Qwen files name one that is unused."""


def config_from_gguf(file: GgufFile) -> ModelConfig:
    """Raises ModelFileError for what is missing, malformed or unsupported."""
    architecture = _architecture(file)
    family = ARCHITECTURES[architecture]
    said = Fields(file.name, file.metadata, f"{architecture}.")
    mixture = family is Family.QWEN3_MOE
    if not mixture:
        _refuse_experts(said)
    hidden_size, heads = said.natural("embedding_length"), said.natural("attention.head_count")
    head_size = said.natural("attention.key_length", hidden_size // heads or None)
    _refuse_partial(said, head_size)
    layers = said.natural("block_count")
    window = said.index("attention.sliding_window") if family in WINDOWED else None
    return ModelConfig(
        family=family,
        vocab_size=_vocab_size(file, said),
        hidden_size=hidden_size,
        intermediate_size=said.natural("feed_forward_length"),
        layers=layers,
        heads=heads,
        kv_heads=said.natural("attention.head_count_kv", heads),
        head_size=head_size,
        context_length=said.natural("context_length"),
        rms_norm_eps=said.number("attention.layer_norm_rms_epsilon"),
        rope_theta=said.number("rope.freq_base", ROPE_THETA),
        rope_scaling=_rope_scaling(said),
        rope_divisors=_rope_divisors(file, said),
        tied_embeddings="output.weight" not in file.tensors,
        qkv_bias="blk.0.attn_q.bias" in file.tensors,
        output_bias="blk.0.attn_output.bias" in file.tensors,
        mlp_bias="blk.0.ffn_up.bias" in file.tensors,
        qk_norm="blk.0.attn_q_norm.weight" in file.tensors,
        sliding_window=window or None,
        sliding_layers=tuple(range(layers)) if window else (),
        experts=said.natural("expert_count") if mixture else 0,
        experts_per_token=said.natural("expert_used_count") if mixture else 0,
        expert_intermediate_size=said.natural("expert_feed_forward_length") if mixture else 0,
        # files seldom say so: llama.cpp computes this architecture no other way
        norm_topk_prob=mixture and said.flag("expert_weights_norm", True),
    )


def _architecture(file: GgufFile) -> str:
    general = Fields(file.name, file.metadata)
    architecture = general.text("general.architecture")
    if architecture not in ARCHITECTURES:
        raise general.unsupported(f"architecture {architecture!s:.40}", " ".join(ARCHITECTURES))
    return architecture


def _vocab_size(file: GgufFile, said: Fields) -> int:
    """Rows of the embedding: the tokenizer's own count may lack the padding."""
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise said.unsupported("a file without the tensor token_embd.weight", "whole models")
    return embedding.shape[0]


def _refuse_experts(said: Fields) -> None:
    if said.index("expert_count"):
        raise said.unsupported("a mixture of experts", "dense models, and qwen3moe")


def _refuse_partial(said: Fields, head_size: int) -> None:
    if said.natural("attention.value_length", head_size) != head_size:
        raise said.unsupported("a value size other than the key size", "equal sizes")
    if said.natural("rope.dimension_count", head_size) != head_size:
        raise said.unsupported("a partial rotary embedding", "rotation of the whole head")


def _rope_scaling(said: Fields) -> LinearRopeScaling | None:
    """Llama 3's scaling does not come this way but as the tensor rope_freqs.weight."""
    kind = said.text("rope.scaling.type")
    if kind in (None, "none") and said.has("rope.scale_linear"):  # how old files spell it
        return LinearRopeScaling(said.number("rope.scale_linear"))
    if kind in (None, "none"):
        return None
    if kind == "linear":
        return LinearRopeScaling(said.number("rope.scaling.factor"))
    raise said.unsupported(f"rope scaling {kind:.40}", "none linear llama3")


def _rope_divisors(file: GgufFile, said: Fields) -> tuple[float, ...] | None:
    entry = file.tensors.get("rope_freqs.weight")
    if entry is None:
        return None
    if entry.type is not GgmlType.F32 or len(entry.shape) != 1:
        raise said.unsupported(f"rope_freqs.weight of type {entry.type.name}", "F32 vectors")
    divisors = file.tensor_bytes(entry.name).view(np.dtype("<f4"))
    if not np.all(np.isfinite(divisors) & (divisors > 0)):
        raise said.wrong("rope_freqs.weight", "a list of positive numbers")
    return tuple(float(divisor) for divisor in divisors)
