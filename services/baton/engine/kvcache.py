"""The paged KV cache: one stretch of memory for all layers and blocks, and its bytes for the
hand-off.

Knows where a block lies; knows nothing of who owns it or whether its content is valid.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from baton.common.errors import TransferCorrupt
from baton.engine.kvside import FloatSide, Int8Keys, Int8Values, KvSide
from baton.engine.memory import Arena
from baton.engine.quant.kv import kv_vector_bytes, require_fit
from baton.model.config import ModelConfig


class PagedKvCache:
    """KV of `block_count` blocks of `block_size` tokens. Implements KvStore.

    In memory: [layers][k, v][blocks][side of a block]. A side is [slot][head][dim]; of int8 it is
    ordered as `kvside` says. Raises ConfigError for a shape that the type cannot hold.
    """

    def __init__(
        self, config: ModelConfig, *, block_count: int, block_size: int, dtype: torch.dtype
    ) -> None:
        self.block_count, self.block_size, self.dtype = block_count, block_size, dtype
        self._kv_heads, self._head_size = config.kv_heads, config.head_size
        name = str(dtype).removeprefix("torch.")
        require_fit(name, block_size=block_size, head_size=config.head_size)
        vector_bytes = kv_vector_bytes(name, config.head_size)
        side_bytes = block_size * config.kv_heads * vector_bytes
        shape = (2 * config.layers, block_count, side_bytes)
        memory = Arena(math.prod(shape)).memory
        cache = torch.frombuffer(memory, dtype=torch.uint8, count=math.prod(shape)).view(shape)
        self.address = cache.data_ptr()
        self._layers = [
            (self._side(cache[index], keys=True), self._side(cache[index + 1]))
            for index in range(0, len(cache), 2)
        ]
        # numpy copies on the calling thread: a transfer must not take torch's compute threads
        self._bytes = cache.numpy()

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all layers, keys and values."""
        sides, _, side_bytes = self._bytes.shape
        return int(sides * side_bytes)

    def layer(self, index: int) -> tuple[KvSide, KvSide]:
        """A layer's keys and values."""
        return self._layers[index]

    def read_blocks(self, block_ids: Sequence[int]) -> bytes:
        """The blocks' bytes, [layer][k,v][block][side of a block]."""
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

    def _side(self, blocks: torch.Tensor, *, keys: bool = False) -> KvSide:
        """blocks: [blocks, bytes of a side]"""
        shape = (self.block_size, self._kv_heads, self._head_size)
        if self.dtype is torch.int8:
            return Int8Keys(blocks, shape) if keys else Int8Values(blocks, shape)
        return FloatSide(blocks.view(self.dtype).view(-1, *shape[1:]))
