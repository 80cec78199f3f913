"""The paged KV cache on a device: where each layer's blocks lie, and what they are held in.

[layers][k, v][blocks][block_size][kv_heads][head_size], and scales of the same order beside it
where values have 8 bits. Knows places and types; knows nothing of who owns a block, nor of the
order in which blocks travel.
"""

from dataclasses import dataclass

import torch

from baton.engine.cuda.kernels.rope import KvScales
from baton.engine.quant.kv import kv_vector_bytes, require_fit
from baton.model.config import ModelConfig

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
    "fp8": torch.float8_e4m3fn,
}
"""By the names that workers compare."""


@dataclass(frozen=True, slots=True)
class LayerKv:
    keys: torch.Tensor  # [blocks, block_size, kv_heads, head_size]
    values: torch.Tensor  # the same
    scales: KvScales | None  # of keys and of values, each [blocks, block_size, kv_heads] float32


class DeviceKvCache:
    """KV of `block_count` blocks of `block_size` tokens. Raises ConfigError for a shape that the
    type cannot hold."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        block_count: int,
        block_size: int,
        dtype: str,
        device: torch.device,
    ) -> None:
        require_fit(dtype, block_size=block_size, head_size=config.head_size)
        self.block_count, self.block_size, self.dtype = block_count, block_size, dtype
        vectors = (config.layers, 2, block_count, block_size, config.kv_heads)
        self.vectors = _zeros((*vectors, config.head_size), DTYPES[dtype], device)
        wide = self.vectors.element_size() > 1
        self.scales = None if wide else torch.zeros(vectors, device=device)
        self.block_bytes = kv_block_bytes(config, block_size=block_size, dtype=dtype)
        self._layers = [self._layer(index) for index in range(config.layers)]

    def layer(self, index: int) -> LayerKv:
        return self._layers[index]

    def _layer(self, index: int) -> LayerKv:
        keys, values = self.vectors[index]
        if self.scales is None:
            return LayerKv(keys, values, None)
        key_scales, value_scales = self.scales[index]
        return LayerKv(keys, values, (key_scales, value_scales))


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Of any type: 8-bit floats cannot be filled, but zero bytes are zeros."""
    wide = (*shape[:-1], shape[-1] * dtype.itemsize)
    return torch.zeros(wide, dtype=torch.uint8, device=device).view(dtype)


def kv_block_bytes(config: ModelConfig, *, block_size: int, dtype: str) -> int:
    """Of one block over all layers, keys and values."""
    vectors = config.layers * 2 * block_size * config.kv_heads
    return vectors * kv_vector_bytes(dtype, config.head_size)
