"""ModelConfig from a Hugging Face config.json, in the spellings of transformers 4 and 5.

A key that is left out means the default of the family's config class in transformers, and these are
known here. Knows no tensors.
"""

from baton.model.config import Family, LinearRopeScaling, Llama3RopeScaling, ModelConfig
from baton.model.fields import Fields

RMS_NORM_EPS = 1e-6
ROPE_THETA = 10_000.0
SLIDING_WINDOW = 4_096
MAX_WINDOW_LAYERS = 28
QWEN3_HEAD_SIZE = 128
FAMILIES = " ".join(family.value for family in Family)
ROPE_TYPES = "default linear llama3"

RopeScaling = Llama3RopeScaling | LinearRopeScaling


def config_from_json(file_name: str, values: dict[str, object]) -> ModelConfig:
    """Raises ModelFileError for what is missing, malformed or unsupported."""
    said = Fields(file_name, values)
    family = _family(said)
    _refuse_variants(said)
    context_length = said.natural("max_position_embeddings")
    rope_theta, rope_scaling = _rope(said, context_length)
    heads, layers = said.natural("num_attention_heads"), said.natural("num_hidden_layers")
    window, sliding_layers = _sliding(said, family, layers)
    mixture = family is Family.QWEN3_MOE
    return ModelConfig(
        family=family,
        vocab_size=said.natural("vocab_size"),
        hidden_size=said.natural("hidden_size"),
        intermediate_size=said.natural("intermediate_size"),
        layers=layers,
        heads=heads,
        kv_heads=said.natural("num_key_value_heads", heads),
        head_size=_head_size(said, family, heads),
        context_length=context_length,
        rms_norm_eps=said.number("rms_norm_eps", RMS_NORM_EPS),
        rope_theta=rope_theta,
        rope_scaling=rope_scaling,
        tied_embeddings=said.flag("tie_word_embeddings", False),
        qkv_bias=family is Family.QWEN2 or _attention_bias(said, family),
        output_bias=_attention_bias(said, family),
        mlp_bias=family is Family.LLAMA and said.flag("mlp_bias", False),
        qk_norm=family in (Family.QWEN3, Family.QWEN3_MOE),
        sliding_window=window,
        sliding_layers=sliding_layers,
        experts=_experts(said) if mixture else 0,
        experts_per_token=said.natural("num_experts_per_tok") if mixture else 0,
        expert_intermediate_size=said.natural("moe_intermediate_size") if mixture else 0,
        norm_topk_prob=mixture and said.flag("norm_topk_prob", False),
    )


def _family(said: Fields) -> Family:
    model_type = said.text("model_type")
    try:
        return Family(model_type)
    except ValueError as error:
        raise said.unsupported(f"model_type {model_type!s:.40}", FAMILIES) from error


def _refuse_variants(said: Fields) -> None:
    """What changes the computation and is not built here must not be passed over."""
    activation = said.text("hidden_act")
    if activation not in (None, "silu"):
        raise said.unsupported(f"hidden_act {activation:.40}", "silu")
    if said.has("quantization_config"):
        raise said.unsupported("quantization_config", "F32 F16 BF16 safetensors, or GGUF")


def _experts(said: Fields) -> int:
    """How many there are; refuses models that mix dense layers in. Two spellings, as transformers
    4 and 5 have it."""
    if said.natural("decoder_sparse_step", 1) != 1 or said.whole_numbers("mlp_only_layers"):
        raise said.unsupported("a mixture with dense layers in between", "experts in all layers")
    return said.natural("num_experts" if said.has("num_experts") else "num_local_experts")


def _head_size(said: Fields, family: Family, heads: int) -> int:
    if family is Family.QWEN3:
        return said.natural("head_dim", QWEN3_HEAD_SIZE)
    return said.natural("head_dim", said.natural("hidden_size") // heads or None)


def _attention_bias(said: Fields, family: Family) -> bool:
    """On all four projections; only these families know the key."""
    biased = (Family.LLAMA, Family.QWEN3, Family.QWEN3_MOE)
    return family in biased and said.flag("attention_bias", False)


def _sliding(said: Fields, family: Family, layers: int) -> tuple[int | None, tuple[int, ...]]:
    """The window and the layers that have it. Mistral: all; Qwen: those it switches on, if any."""
    if family is Family.LLAMA:
        return None, ()
    if family is Family.MISTRAL:
        # an explicit null switches the window off, a missing key means the default
        if said.nulled("sliding_window"):
            return None, ()
        return said.natural("sliding_window", SLIDING_WINDOW), tuple(range(layers))
    if not said.flag("use_sliding_window", False) or said.nulled("sliding_window"):
        return None, ()
    if family is Family.QWEN3_MOE:
        raise said.unsupported("a sliding window in a mixture of experts", "full attention")
    sliding = _sliding_layers(said, layers)
    return (said.natural("sliding_window", SLIDING_WINDOW), sliding) if sliding else (None, ())


def _sliding_layers(said: Fields, layers: int) -> tuple[int, ...]:
    kinds = said.texts("layer_types")
    if kinds is None:
        first = said.index("max_window_layers")
        return tuple(range(MAX_WINDOW_LAYERS if first is None else first, layers))
    if len(kinds) != layers or not set(kinds) <= {"sliding_attention", "full_attention"}:
        raise said.unsupported("this list of layer_types", "sliding_attention full_attention")
    return tuple(layer for layer, kind in enumerate(kinds) if kind == "sliding_attention")


def _rope(said: Fields, context_length: int) -> tuple[float, RopeScaling | None]:
    """Theta and scaling: transformers 5 keeps both in rope_parameters, 4 in two places."""
    rope = said.inner("rope_scaling") or said.inner("rope_parameters") or Fields(said.file_name, {})
    theta = rope.number("rope_theta", said.number("rope_theta", ROPE_THETA))
    for holder in (said, rope):
        if holder.number("partial_rotary_factor", 1.0) != 1.0:
            raise said.unsupported("a partial rotary embedding", "rotation of the whole head")
    kind = rope.text("rope_type") or rope.text("type") or "default"
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, LinearRopeScaling(rope.number("factor"))
    if kind == "llama3":
        return theta, _llama3(said, rope, context_length)
    raise said.unsupported(f"rope_type {kind:.40}", ROPE_TYPES)


def _llama3(said: Fields, rope: Fields, context_length: int) -> Llama3RopeScaling:
    original = "original_max_position_embeddings"
    holder = said if said.has(original) else rope
    return Llama3RopeScaling(
        factor=rope.number("factor"),
        low_freq_factor=rope.number("low_freq_factor"),
        high_freq_factor=rope.number("high_freq_factor"),
        original_context_length=holder.natural(original, context_length),
    )
