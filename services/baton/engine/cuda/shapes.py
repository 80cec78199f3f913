"""Models by their shape alone, with random weights made on the device.

For measuring what shapes cost where no weights can be had. Knows three published configurations;
knows no files. What such a model says means nothing.
"""

import torch

from baton.engine.weights.parts import ExpertPart, Part, expert_shape, part_shape
from baton.model.config import Family, Llama3RopeScaling, ModelConfig

LLAMA_3_1_8B = ModelConfig(
    family=Family.LLAMA,
    vocab_size=128_256,
    hidden_size=4_096,
    intermediate_size=14_336,
    layers=32,
    heads=32,
    kv_heads=8,
    head_size=128,
    context_length=131_072,
    rms_norm_eps=1e-5,
    rope_theta=500_000.0,
    rope_scaling=Llama3RopeScaling(
        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=8_192
    ),
)

QWEN3_8B = ModelConfig(
    family=Family.QWEN3,
    vocab_size=151_936,
    hidden_size=4_096,
    intermediate_size=12_288,
    layers=36,
    heads=32,
    kv_heads=8,
    head_size=128,
    context_length=40_960,
    rms_norm_eps=1e-6,
    rope_theta=1_000_000.0,
    qk_norm=True,
)

QWEN3_30B_A3B = ModelConfig(
    family=Family.QWEN3_MOE,
    vocab_size=151_936,
    hidden_size=2_048,
    intermediate_size=6_144,
    layers=48,
    heads=32,
    kv_heads=4,
    head_size=128,
    context_length=40_960,
    rms_norm_eps=1e-6,
    rope_theta=1_000_000.0,
    qk_norm=True,
    experts=128,
    experts_per_token=8,
    expert_intermediate_size=768,
    norm_topk_prob=True,
)

SHAPES = {
    "llama-3.1-8b": LLAMA_3_1_8B,
    "qwen3-8b": QWEN3_8B,
    "qwen3-30b-a3b": QWEN3_30B_A3B,
}

NORM_SPREAD = 0.1  # around 1, as in trained models


class DeviceRandomWeights:
    """Implements TensorSource, on the device: drawing billions of numbers takes a GPU a moment, and
    a processor minutes."""

    def __init__(self, config: ModelConfig, seed: int, device: torch.device) -> None:
        self._config, self._device = config, device
        self._generator = torch.Generator(device).manual_seed(seed)

    def fetch(self, part: Part, layer: int | None = None) -> torch.Tensor:
        """A float32 tensor: matrices of variance 1 / in, norms around 1, biases and all else near
        it. Other in every call."""
        del layer  # all layers are drawn alike
        tensor = self._drawn(part_shape(part, self._config))
        if tensor.ndim > 1:
            return tensor
        return tensor.mul_(NORM_SPREAD) if "BIAS" in part.name else tensor.mul_(NORM_SPREAD).add_(1)

    def fetch_expert(self, part: ExpertPart, layer: int, expert: int) -> torch.Tensor:
        """A float32 matrix of variance 1 / in."""
        del layer, expert
        return self._drawn(expert_shape(part, self._config))

    def _drawn(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Of variance 1, matrices of variance 1 / in."""
        tensor = torch.empty(shape, dtype=torch.float32, device=self._device)
        tensor.normal_(generator=self._generator)
        return tensor.mul_(shape[-1] ** -0.5) if tensor.ndim > 1 else tensor
