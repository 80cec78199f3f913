"""The paged KV cache: one tensor for all layers and blocks, and its bytes for the hand-off.

Knows where a block lies; knows nothing of who owns it or whether its content is valid.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from baton.common.errors import TransferCorrupt
from baton.engine.memory import Arena
from baton.model.config import ModelConfig


class PagedKvCache:
    """KV of `block_count` blocks of `block_size` tokens. Implements KvStore."""

    def __init__(
        self, config: ModelConfig, *, block_count: int, block_size: int, dtype: torch.dtype
    ) -> None:
        self.block_count, self.block_size, self.dtype = block_count, block_size, dtype
        shape = (
            *(config.layers, 2, block_count, block_size),
            *(config.kv_heads, config.head_size),
        )
        memory = Arena(math.prod(shape) * dtype.itemsize).memory
        # [layers, k and v, blocks, slots, kv_heads, head_size]
        self._cache = torch.frombuffer(memory, dtype=dtype, count=math.prod(shape)).view(shape)
        # per layer: keys and values as [blocks * slots, kv_heads, head_size]
        self._layers = [
            (keys.flatten(0, 1), values.flatten(0, 1)) for keys, values in self._cache.unbind(0)
        ]
        # numpy copies on the calling thread: a transfer must not take torch's compute threads
        self._bytes = (
            self._cache.view(torch.uint8).numpy().reshape(2 * config.layers, block_count, -1)
        )

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all layers, keys and values."""
        return self._bytes.shape[0] * self._bytes.shape[2]

    @property
    def address(self) -> int:
        """Where [layers, k and v, blocks, slots, kv_heads, head_size] begins in memory."""
        return self._cache.data_ptr()

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's keys and values, each [slots of all blocks, kv_heads, head_size]: views."""
        return self._layers[index]

    def read_blocks(self, block_ids: Sequence[int]) -> bytes:
        """The blocks' bytes, [layer][k,v][block][slot][head][dim]."""
        return self._bytes.take(np.asarray(block_ids, dtype=np.intp), axis=1).tobytes()

    def write_blocks(self, block_ids: Sequence[int], payload: bytes) -> None:
        """The reverse of `read_blocks`. Raises TransferCorrupt for a payload of another size."""
        expected = len(block_ids) * self.block_bytes
        if len(payload) != expected:
            raise TransferCorrupt(
                f"payload of {len(payload)} bytes for {len(block_ids)} blocks, expected {expected}"
            )
        sides, _, side_bytes = self._bytes.shape
        blocks = np.frombuffer(payload, np.uint8).reshape(sides, len(block_ids), side_bytes)
        self._bytes[:, np.asarray(block_ids, dtype=np.intp)] = blocks
