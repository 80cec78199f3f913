"""The shape of a model, whichever file format told it. Pure values; knows no tensors, no files."""

from dataclasses import dataclass
from enum import Enum


class Family(Enum):
    """Decoder families; one config-driven decoder serves all, they differ in the flags below."""

    LLAMA = "llama"
    MISTRAL = "mistral"
    QWEN2 = "qwen2"
    QWEN3 = "qwen3"
    QWEN3_MOE = "qwen3_moe"


@dataclass(frozen=True, slots=True)
class Llama3RopeScaling:
    """Llama 3.1's frequency scaling (`rope_type: llama3` in transformers)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context_length: int


@dataclass(frozen=True, slots=True)
class LinearRopeScaling:
    factor: float


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Everything the decoder needs to be built and the KV cache to be sized."""

    family: Family
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    context_length: int  # tokens the model was trained for
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: Llama3RopeScaling | LinearRopeScaling | None = None
    # GGUF files carry the scaling as one divisor per rotary frequency (rope_freqs.weight) instead
    rope_divisors: tuple[float, ...] | None = None
    tied_embeddings: bool = False
    qkv_bias: bool = False  # qwen2; llama with attention_bias
    output_bias: bool = False  # llama with attention_bias: the attention's output projection too
    mlp_bias: bool = False
    qk_norm: bool = False  # qwen3: RMS norm per head on q and k before rope
    sliding_window: int | None = None  # tokens a query sees, itself included
    sliding_layers: tuple[int, ...] = ()  # layers with the window; all others see everything
    # A mixture of experts, in every layer: each token goes to the few its router rates highest.
    experts: int = 0  # 0: dense layers
    experts_per_token: int = 0
    expert_intermediate_size: int = 0  # of one expert; `intermediate_size` is then unused
    norm_topk_prob: bool = False  # whether the chosen experts' shares are made to add up to 1


def weight_count(config: ModelConfig) -> int:
    """Weights of layers and head, without the embedding table: what computing can read."""
    heads = config.heads + 2 * config.kv_heads
    attention = config.hidden_size * config.head_size * (heads + config.heads)
    mlp = 3 * config.hidden_size * config.intermediate_size
    if config.experts:  # all of them, and the router
        mlp = config.experts * (config.hidden_size + _expert_weights(config))
    return config.layers * (attention + mlp) + config.vocab_size * config.hidden_size


def step_weight_count(config: ModelConfig, rows: int) -> float:
    """Weights that a step over so many tokens reads: of a mixture the mean, were each token's
    experts drawn at random."""
    missed = (1 - config.experts_per_token / config.experts) ** rows if config.experts else 0.0
    unread = config.experts * missed
    return weight_count(config) - config.layers * unread * _expert_weights(config)


def _expert_weights(config: ModelConfig) -> int:
    return 3 * config.hidden_size * config.expert_intermediate_size
