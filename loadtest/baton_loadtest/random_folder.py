"""A model folder of random weights, as workers and routers load any other: for shapes whose weights
cannot be had.

All tensors of a shape lie in one stretch of the file, which is little larger than the embedding;
loaded, each has memory of its own. Knows the files of a model; what it says means nothing.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from baton.engine.weights.bfloat16 import narrowed
from baton.engine.weights.parts import Floats, expert_shape, part_shape
from baton.engine.weights.random_weights import NORM_SPREAD
from baton.engine.weights.safetensors_weights import EXPERT_TENSOR_NAMES, TENSOR_NAMES
from baton.model.card_json import config_from_json
from baton.model.config import Llama3RopeScaling, ModelConfig

SEED = 0
VALUE_BYTES = 2  # bfloat16


def write_random_model(folder: Path, config: ModelConfig) -> None:
    """Into an empty folder. Raises ValueError for a shape that config.json is not taught to say."""
    said = hf_config(config)
    if config_from_json("config.json", said) != config:
        raise ValueError(f"config.json cannot say all of {config}")
    (folder / "config.json").write_text(json.dumps(said))
    (folder / "tokenizer.json").write_text(json.dumps(plain_tokenizer(config.vocab_size)))
    _write_weights(folder / "model.safetensors", config)


def hf_config(config: ModelConfig) -> dict[str, object]:
    """What config.json says of a shape. Of scaled rotations it knows Llama 3's."""
    said: dict[str, object] = {
        "model_type": config.family.value,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied_embeddings,
    }
    if isinstance(scaling := config.rope_scaling, Llama3RopeScaling):
        said["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context_length,
        }
    if config.experts:
        said |= {
            "num_experts": config.experts,
            "num_experts_per_tok": config.experts_per_token,
            "moe_intermediate_size": config.expert_intermediate_size,
            "norm_topk_prob": config.norm_topk_prob,
        }
    return said


def plain_tokenizer(vocab_size: int) -> dict[str, object]:
    """tokenizer.json of words that are whole by themselves, so that every token that is drawn is
    told at once; prompts are token ids."""
    spelled = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": spelled,
        "decoder": spelled,
        "model": {
            "type": "BPE",
            "vocab": {f"t{token}": token for token in range(vocab_size)},
            "merges": [],
        },
    }


def _write_weights(path: Path, config: ModelConfig) -> None:
    header: dict[str, object] = {}
    ends: dict[tuple[int, ...], int] = {}
    end = 0
    for name, shape in _tensors(config):
        if shape not in ends:
            end = ends[shape] = end + VALUE_BYTES * math.prod(shape)
        start = ends[shape] - VALUE_BYTES * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, ends[shape]]}
    described = json.dumps(header).encode()
    random = np.random.default_rng(SEED)
    with path.open("wb") as file:
        file.write(len(described).to_bytes(8, "little") + described)
        for shape in ends:
            file.write(narrowed(_drawn(shape, random)).tobytes())


def _tensors(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes; what the model has once comes as often as it has layers. Parts that the
    model lacks come too: nobody reads them."""
    for layer in range(config.layers):
        for part, name in TENSOR_NAMES.items():
            yield name.format(layer), part_shape(part, config)
        for expert in range(config.experts):
            for expert_part, name in EXPERT_TENSOR_NAMES.items():
                yield name.format(layer, expert), expert_shape(expert_part, config)


def _drawn(shape: tuple[int, ...], random: np.random.Generator) -> Floats:
    """Matrices of variance 1 / in, and norms around 1: activations keep their size."""
    values = random.standard_normal(shape, np.float32)
    if len(shape) > 1:
        values *= np.float32(shape[-1] ** -0.5)
        return values
    return values * NORM_SPREAD + 1
