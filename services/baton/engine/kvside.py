"""The KV cache as torch sees it, side by side: vectors in at slots, vectors out of slots.

Knows the order of a block's bytes, the kernels' own; knows nothing of who owns a block. A slot is a
token's place: block id times tokens per block, plus its place in the block.
"""

import math
from typing import Protocol

import torch

from baton.engine.kvcache import PagedKvCache
from baton.engine.quant.kv import SCALE_BYTES

LEVELS = 127  # -127..127
# Of keys in memory: the products want one side unsigned, and queries stay signed.
KEY_OFFSET = 128
# A vector of zeros has no scale; this one keeps it zeros.
LARGEST_MIN = 1e-30


class KvSide(Protocol):
    """One side of one layer, over all blocks."""

    def write(self, slots: torch.Tensor, vectors: torch.Tensor) -> None:
        """Put vectors [T, kv_heads, head_size], float32, at slots [T]."""
        ...

    def read(self, slots: torch.Tensor) -> torch.Tensor:
        """The vectors at slots [T] -> [T, kv_heads, head_size] float32."""
        ...

    def query(self, q: torch.Tensor) -> torch.Tensor:
        """Queries [..., head_size] as keys of this type are multiplied with: rounded like them."""
        ...


class TorchKv:
    """The sides of a cache, over its own memory. Lives on without the cache."""

    def __init__(self, cache: PagedKvCache) -> None:
        self._dtype = getattr(torch, cache.dtype)
        self._shape = (cache.block_size, cache.kv_heads, cache.head_size)
        sides = torch.from_numpy(cache.sides)
        self._layers = [
            (self._side(keys, Int8Keys), self._side(values, Int8Values))
            for keys, values in zip(sides[0::2], sides[1::2], strict=True)
        ]

    def layer(self, index: int) -> tuple[KvSide, KvSide]:
        """A layer's keys and values."""
        return self._layers[index]

    def _side(self, blocks: torch.Tensor, levels: "type[Int8Keys | Int8Values]") -> KvSide:
        """blocks: [blocks, bytes of a side]"""
        if self._dtype is torch.int8:
            return levels(blocks, self._shape)
        return FloatSide(blocks.view(self._dtype).view(-1, *self._shape[1:]))


class FloatSide:
    """Plain numbers, rounded to the cache's type; queries are not."""

    def __init__(self, vectors: torch.Tensor) -> None:
        """vectors: [slots, kv_heads, head_size], a view of the cache."""
        self._vectors = vectors

    def write(self, slots: torch.Tensor, vectors: torch.Tensor) -> None:
        self._vectors.index_copy_(0, slots, vectors.to(self._vectors.dtype))

    def read(self, slots: torch.Tensor) -> torch.Tensor:
        return self._vectors.index_select(0, slots).float()

    def query(self, q: torch.Tensor) -> torch.Tensor:
        return q


class _Int8Side:
    """Levels of 8 bits and, behind them, a float32 per vector: what one of its levels is worth.

    A token's scale depends on that token alone, so what is stored for it depends on nothing else.
    """

    def __init__(self, blocks: torch.Tensor, shape: tuple[int, int, int]) -> None:
        """blocks: [blocks, bytes], a view of the cache; shape: block_size, kv_heads, head_size."""
        self._block_size, heads, _ = shape
        size, count = math.prod(shape), len(blocks)
        self._levels = blocks[:, :size].view(count, *self._order(*shape))
        self._scales = blocks[:, size:].view(count, heads, self._block_size, SCALE_BYTES)

    def query(self, q: torch.Tensor) -> torch.Tensor:
        levels, scales = _rounded(q)
        return levels * scales

    def write(self, slots: torch.Tensor, vectors: torch.Tensor) -> None:
        levels, scales = _rounded(vectors)
        block, slot = slots // self._block_size, slots % self._block_size
        self._put(block, slot, levels)
        self._scales[block, :, slot] = scales.view(torch.uint8)

    def read(self, slots: torch.Tensor) -> torch.Tensor:
        # blocks are put in order whole, and slots picked after: single slots lie all over a block
        blocks, places = torch.unique(slots // self._block_size, return_inverse=True)
        scales = self._scales.index_select(0, blocks).view(torch.float32).transpose(1, 2)
        vectors = self._take(blocks) * scales  # [blocks, slots, kv_heads, head_size]
        return vectors.flatten(0, 1).index_select(
            0, places * self._block_size + slots % self._block_size
        )

    def _order(self, block_size: int, kv_heads: int, head_size: int) -> tuple[int, ...]:
        """How the levels of a block lie."""
        raise NotImplementedError

    def _put(self, block: torch.Tensor, slot: torch.Tensor, levels: torch.Tensor) -> None:
        """levels: [T, kv_heads, head_size], whole numbers"""
        raise NotImplementedError

    def _take(self, blocks: torch.Tensor) -> torch.Tensor:
        """Whole blocks [B] -> [B, slots, kv_heads, head_size], whole numbers"""
        raise NotImplementedError


class Int8Keys(_Int8Side):
    """[head][dim / 4][slot][4], as level + 128."""

    def _order(self, block_size: int, kv_heads: int, head_size: int) -> tuple[int, ...]:
        return (kv_heads, head_size // 4, block_size, 4)

    def _put(self, block: torch.Tensor, slot: torch.Tensor, levels: torch.Tensor) -> None:
        heads, quads = self._levels.shape[1:3]
        unsigned = (levels + KEY_OFFSET).to(torch.uint8)
        self._levels[block, :, :, slot] = unsigned.reshape(len(slot), heads, quads, 4)

    def _take(self, blocks: torch.Tensor) -> torch.Tensor:
        # four bytes move as one
        quads = self._levels.index_select(0, blocks).view(torch.int32).flatten(3)
        levels = quads.permute(0, 3, 1, 2).contiguous().view(torch.uint8)
        return levels.float() - KEY_OFFSET


class Int8Values(_Int8Side):
    """[head][slot / 2][dim][2], as levels."""

    def _order(self, block_size: int, kv_heads: int, head_size: int) -> tuple[int, ...]:
        return (kv_heads, block_size // 2, head_size, 2)

    def _put(self, block: torch.Tensor, slot: torch.Tensor, levels: torch.Tensor) -> None:
        self._levels[block, :, slot // 2, :, slot % 2] = levels.to(torch.int8).view(torch.uint8)

    def _take(self, blocks: torch.Tensor) -> torch.Tensor:
        pairs = self._levels.index_select(0, blocks).view(torch.int16).flatten(3).transpose(1, 2)
        # the first of a pair is the low byte; shifts keep the signs
        return torch.stack(((pairs << 8) >> 8, pairs >> 8), 2).float().flatten(1, 2)


def _rounded(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[..., n] -> levels [..., n], whole numbers, and what each is worth [..., 1]."""
    most = vectors.abs().amax(-1, keepdim=True).clamp_min_(LARGEST_MIN)
    return (vectors * (LEVELS / most)).round_(), most / LEVELS
