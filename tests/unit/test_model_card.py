"""A model's shape is read off GGUF metadata and config.json; what is not supported is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from baton.common.errors import ModelFileError
from baton.model.card import read_config
from baton.model.config import Family, LinearRopeScaling, Llama3RopeScaling, ModelConfig
from baton.model.fetch import LocalModel
from baton.model.ggml import GgmlType
from support.gguf_files import TINY_LLAMA_KEYS, Value, write_gguf_file

EMBEDDING = {"token_embd.weight": ((300, 64), GgmlType.F16)}
HF_CONFIG: dict[str, object] = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
}


def gguf_config(
    tmp_path: Path,
    architecture: str = "llama",
    *,
    without: str | None = None,
    tensors: tuple[str, ...] = (),
    divisors: list[float] | None = None,
    **changes: Value,
) -> ModelConfig:
    """The config of a GGUF file; `changes` have dots as double underscores."""
    keys = {**TINY_LLAMA_KEYS, **{key.replace("__", "."): v for key, v in changes.items()}}
    keys.pop(without or "", None)
    path = write_gguf_file(
        tmp_path / "m.gguf",
        architecture=architecture,
        shape_keys=keys,
        tensors={**EMBEDDING, **dict.fromkeys(tensors, ((64,), GgmlType.F32))},
        values=None
        if divisors is None
        else {"rope_freqs.weight": np.array(divisors, dtype=np.float32)},
    )
    return read_config(LocalModel(path, "0"))


def json_config(tmp_path: Path, **changes: object) -> ModelConfig:
    """The config of a directory; a change to Ellipsis leaves the key out."""
    said = {key: value for key, value in {**HF_CONFIG, **changes}.items() if value is not ...}
    (tmp_path / "config.json").write_text(json.dumps(said))
    return read_config(LocalModel(tmp_path, "0"))


def test_a_plain_llama_in_gguf(tmp_path: Path) -> None:
    assert gguf_config(tmp_path) == ModelConfig(
        family=Family.LLAMA,
        vocab_size=300,
        hidden_size=64,
        intermediate_size=96,
        layers=2,
        heads=4,
        kv_heads=2,
        head_size=16,
        context_length=256,
        rms_norm_eps=float(np.float32(1e-5)),
        rope_theta=10_000.0,
        tied_embeddings=True,
    )


DENSE = [family for family in Family if family is not Family.QWEN3_MOE]


@pytest.mark.parametrize("family", DENSE, ids=lambda family: family.value)
def test_every_dense_family_is_an_architecture(tmp_path: Path, family: Family) -> None:
    assert gguf_config(tmp_path, family.value).family is family


MIXTURE: dict[str, Value] = {
    "architecture": "qwen3moe",
    "expert_count": 8,
    "expert_used_count": 2,
    "expert_feed_forward_length": 24,
}


def test_a_mixture_of_experts_in_gguf_makes_shares_add_up(tmp_path: Path) -> None:
    config = gguf_config(tmp_path, **MIXTURE)  # type: ignore[arg-type]
    assert config.family is Family.QWEN3_MOE
    assert (config.experts, config.experts_per_token) == (8, 2)
    assert (config.expert_intermediate_size, config.norm_topk_prob) == (24, True)


def test_gguf_flags_follow_the_tensors(tmp_path: Path) -> None:
    config = gguf_config(
        tmp_path,
        "qwen2",
        tensors=("output.weight", "blk.0.attn_q.bias", "blk.0.attn_q_norm.weight"),
    )
    assert (config.tied_embeddings, config.qkv_bias, config.qk_norm) == (False, True, True)
    assert (config.output_bias, config.mlp_bias) == (False, False)
    config = gguf_config(tmp_path, tensors=("blk.0.attn_output.bias", "blk.0.ffn_up.bias"))
    assert (config.output_bias, config.mlp_bias, config.qkv_bias) == (True, True, False)


def test_gguf_head_size_and_per_layer_numbers(tmp_path: Path) -> None:
    config = gguf_config(
        tmp_path,
        "qwen3",
        attention__key_length=32,
        attention__value_length=32,
        feed_forward_length=[96, 96],
    )
    assert (config.head_size, config.intermediate_size) == (32, 96)


def test_gguf_rope_scaling(tmp_path: Path) -> None:
    divisors = [1.0, 1.0, 1.5, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert gguf_config(tmp_path, divisors=divisors).rope_divisors == tuple(divisors)
    linear = gguf_config(tmp_path, rope__scaling__type="linear", rope__scaling__factor=4.0)
    assert linear.rope_scaling == LinearRopeScaling(4.0)
    assert gguf_config(tmp_path, rope__scaling__type="none").rope_scaling is None


def test_gguf_sliding_window_counts_only_for_mistral(tmp_path: Path) -> None:
    mistral = gguf_config(tmp_path, "mistral", attention__sliding_window=128)
    assert (mistral.sliding_window, mistral.sliding_layers) == (128, (0, 1))
    qwen = gguf_config(tmp_path, "qwen2", attention__sliding_window=128)
    assert (qwen.sliding_window, qwen.sliding_layers) == (None, ())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"architecture": "gpt2"}, "architecture gpt2.*llama mistral qwen2 qwen3"),
        ({"without": "block_count"}, r"llama\.block_count is missing"),
        ({"block_count": 0}, r"llama\.block_count is not a positive whole number"),
        ({"block_count": "2"}, r"llama\.block_count is not"),
        ({"block_count": 5_000}, "5000 layers"),
        ({"rope__freq_base": -1.0}, r"rope\.freq_base is not a positive number"),
        ({"rope__freq_base": float("nan")}, r"rope\.freq_base is not"),
        ({"attention__head_count_kv": 3}, "4 attention heads cannot share 3"),
        ({"attention__head_count_kv": [2, 1]}, "head_count_kv is not"),
        ({"attention__key_length": 15, "attention__value_length": 15}, "even head size"),
        ({"attention__value_length": 8}, "value size"),
        ({"rope__dimension_count": 8}, "partial rotary"),
        ({"rope__scaling__type": "yarn"}, "rope scaling yarn.*linear llama3"),
        ({"expert_count": 8}, "mixture of experts.*qwen3moe"),
        (MIXTURE | {"without": "expert_count"}, r"qwen3moe\.expert_count is missing"),
        (MIXTURE | {"expert_count": 0}, r"qwen3moe\.expert_count is not a positive"),
        (MIXTURE | {"expert_used_count": 9}, "9 experts for each token, of 8"),
        ({"divisors": [1.0] * 7}, "7 rope_freqs for a head size of 16"),
        ({"divisors": [0.0] * 8}, "rope_freqs.weight is not a list of positive numbers"),
    ],
)
def test_gguf_that_is_not_supported_is_refused(
    tmp_path: Path, changes: dict[str, Value], says: str
) -> None:
    with pytest.raises(ModelFileError, match=rf"^m\.gguf: .*{says}"):
        gguf_config(tmp_path, **changes)  # type: ignore[arg-type]


def test_an_older_config_json_keeps_rope_in_two_places(tmp_path: Path) -> None:
    scaling = {
        "type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    config = json_config(tmp_path, rope_theta=5e5, rope_scaling=scaling)
    assert config.rope_theta == 5e5
    assert config.rope_scaling == Llama3RopeScaling(8.0, 1.0, 4.0, 64)


def test_a_newer_config_json_keeps_rope_in_one_place(tmp_path: Path) -> None:
    rope = {"rope_type": "linear", "rope_theta": 2e4, "factor": 2.0}
    config = json_config(tmp_path, rope_parameters=rope)
    assert (config.rope_theta, config.rope_scaling) == (2e4, LinearRopeScaling(2.0))


@pytest.mark.parametrize(
    ("changes", "window", "layers"),
    [
        ({"model_type": "llama", "sliding_window": 64}, None, ()),
        ({"model_type": "mistral", "sliding_window": 64}, 64, (0, 1, 2, 3)),
        ({"model_type": "mistral", "sliding_window": None}, None, ()),
        ({"model_type": "qwen2", "sliding_window": 64}, None, ()),
        (
            {"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": True}
            | {"max_window_layers": 3},
            64,
            (3,),
        ),
        (
            {"model_type": "qwen3", "sliding_window": 64, "use_sliding_window": True}
            | {"layer_types": ["full_attention", "sliding_attention"] * 2},
            64,
            (1, 3),
        ),
        (
            {"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": True}
            | {"max_window_layers": 4},
            None,
            (),
        ),
    ],
)
def test_a_window_counts_only_where_the_family_uses_it(
    tmp_path: Path, changes: dict[str, object], window: int | None, layers: tuple[int, ...]
) -> None:
    config = json_config(tmp_path, **changes)
    assert (config.sliding_window, config.sliding_layers) == (window, layers)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "gemma3"}, "model_type gemma3.*llama mistral qwen2 qwen3"),
        ({"model_type": ...}, "model_type None"),
        ({"hidden_size": ...}, "hidden_size is missing"),
        ({"hidden_size": 64.0}, "hidden_size is not a positive whole number"),
        ({"hidden_size": True}, "hidden_size is not"),
        ({"num_attention_heads": 128}, "head_dim is missing"),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps is not a number"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps is not a finite number"),
        ({"hidden_act": "gelu"}, "hidden_act gelu.*silu"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config.*GGUF"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_type yarn.*default linear llama3"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor is missing"),
        ({"rope_scaling": "linear"}, "rope_scaling is not an object"),
        ({"partial_rotary_factor": 0.5}, "partial rotary"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is not true or false"),
    ],
)
def test_a_config_json_that_is_not_supported_is_refused(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(ModelFileError, match=rf"^config\.json: .*{says}"):
        json_config(tmp_path, **changes)


@pytest.mark.parametrize("text", ["", "[]", "{", "\N{SNOWMAN}"])
def test_a_config_json_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelFileError, match=r"^config\.json: corrupt"):
        read_config(LocalModel(tmp_path, "0"))


@pytest.mark.parametrize("count", ["num_experts", "num_local_experts"])
def test_a_mixture_of_experts_in_either_spelling(count: str, tmp_path: Path) -> None:
    config = json_config(
        tmp_path,
        model_type="qwen3_moe",
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        norm_topk_prob=True,
        head_dim=16,
        **{count: 8},
    )
    assert config.family is Family.QWEN3_MOE
    assert (config.experts, config.experts_per_token) == (8, 2)
    assert (config.expert_intermediate_size, config.norm_topk_prob) == (24, True)
    assert config.qk_norm
    assert json_config(tmp_path).experts == 0
