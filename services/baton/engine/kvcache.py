"""The paged KV cache: one stretch of memory for all layers and blocks, and its bytes for the
hand-off.

Knows where a block lies; knows nothing of who owns it or whether its content is valid, and no
torch: what torch sees of it is `kvside`'s.
"""

import math
from collections.abc import Sequence

import numpy as np

from baton.common.errors import TransferCorrupt
from baton.engine.memory import Arena
from baton.engine.quant.kv import kv_vector_bytes, require_fit
from baton.model.config import ModelConfig

TOUCHED_BYTES = 4 * 1024 * 1024
"""Of memory in one go: some milliseconds of a system that has to find and clear it."""


class PagedKvCache:
    """KV of `block_count` blocks of `block_size` tokens. Implements KvStore.

    In memory: [layers][k, v][blocks][side of a block]. A side is [slot][head][dim]; of int8 it is
    ordered as `kvside` says. `dtype` is a name that `kv_vector_bytes` knows. Raises ConfigError for
    a shape that the type cannot hold.
    """

    def __init__(
        self, config: ModelConfig, *, block_count: int, block_size: int, dtype: str
    ) -> None:
        self.block_count, self.block_size, self.dtype = block_count, block_size, dtype
        self.kv_heads, self.head_size = config.kv_heads, config.head_size
        require_fit(dtype, block_size=block_size, head_size=config.head_size)
        side_bytes = block_size * config.kv_heads * kv_vector_bytes(dtype, config.head_size)
        shape = (2 * config.layers, block_count, side_bytes)
        self._arena = Arena(math.prod(shape))
        count = math.prod(shape)
        self.sides = np.frombuffer(self._arena.memory, np.uint8, count).reshape(shape)
        """[layers * (k, v), blocks, bytes of a side]"""
        self.address = self.sides.ctypes.data
        self._touched_bytes = 0

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all layers, keys and values."""
        sides, _, side_bytes = self.sides.shape
        return int(sides * side_bytes)

    def clear(self) -> None:
        """Forget every block; memory is given back until blocks are touched or written anew."""
        self._arena.clear()
        self._touched_bytes = 0

    def touch(self) -> bool:
        """The next piece of memory, in order; False once all is there, or all that can be."""
        first = self._touched_bytes
        if first >= self.sides.nbytes or not self._arena.populate(first, TOUCHED_BYTES):
            return False
        self._touched_bytes += TOUCHED_BYTES
        return True

    def read_blocks(self, block_ids: Sequence[int]) -> bytes:
        """The blocks' bytes, [layer][k,v][block][side of a block]."""
        return self.sides.take(np.asarray(block_ids, dtype=np.intp), axis=1).tobytes()

    def write_blocks(self, block_ids: Sequence[int], payload: bytes) -> None:
        """The reverse of `read_blocks`. Raises TransferCorrupt for a payload of another size."""
        expected = len(block_ids) * self.block_bytes
        if len(payload) != expected:
            raise TransferCorrupt(
                f"payload of {len(payload)} bytes for {len(block_ids)} blocks, expected {expected}"
            )
        sides, _, side_bytes = self.sides.shape
        blocks = np.frombuffer(payload, np.uint8).reshape(sides, len(block_ids), side_bytes)
        self.sides[:, np.asarray(block_ids, dtype=np.intp)] = blocks
