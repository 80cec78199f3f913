"""The order of blocks between workers, made and undone on the device.

Every worker sends [layer][k,v][block][side], whatever it computes on. A side of plain numbers is
[slot][head][dim], as in the device's cache. One of int8 is as `engine.kvside` says: the CPU kernels
read it as it comes. One of fp8 is [slot][head][dim], then scales [slot][head]. Knows types and
orders; knows no streams.
"""

import math

import torch

from baton.engine.cuda.kvcache import DeviceKvCache

KEY_SIGN = 0x80
"""Flips -128..127 to 0..255 and back, as bytes: keys travel as level + 128."""


class WireBlocks:
    """`sides` times `side_bytes` make a block."""

    def __init__(self, cache: DeviceKvCache) -> None:
        layers, _, blocks, slots, heads, dims = cache.vectors.shape
        self._dtype = cache.dtype
        self._shape = (slots, heads, dims)
        self.sides = 2 * layers
        self.side_bytes = cache.block_bytes // self.sides
        bare = cache.vectors.view(torch.uint8).view(self.sides, blocks, -1)
        self._vectors = _wide(bare)
        self._scales = None if cache.scales is None else cache.scales.view(self.sides, blocks, -1)

    def gather(self, block_ids: torch.Tensor, staged: torch.Tensor) -> None:
        """Blocks [B] -> staged [bytes]."""
        if self._scales is None:
            out = staged.view(self._vectors.dtype).view(self.sides, len(block_ids), -1)
            torch.index_select(self._vectors, 1, block_ids, out=out)
            return
        wire = staged.view(self.sides, len(block_ids), self.side_bytes)
        levels = self._vectors.index_select(1, block_ids).view(torch.uint8)
        scales = self._scales.index_select(1, block_ids)
        size = math.prod(self._shape)
        wire[..., :size] = self._to_wire(levels)
        wire[..., size:] = self._scales_to_wire(scales).view(torch.uint8)

    def scatter(self, staged: torch.Tensor, block_ids: torch.Tensor) -> None:
        """Staged [bytes] -> blocks [B]."""
        if self._scales is None:
            blocks = staged.view(self._vectors.dtype).view(self.sides, len(block_ids), -1)
            self._vectors.index_copy_(1, block_ids, blocks)
            return
        wire = staged.view(self.sides, len(block_ids), self.side_bytes)
        size = math.prod(self._shape)
        levels = self._from_wire(wire[..., :size]).view(self._vectors.dtype)
        self._vectors.index_copy_(1, block_ids, levels)
        scales = wire[..., size:].contiguous().view(torch.float32)
        self._scales.index_copy_(1, block_ids, self._scales_from_wire(scales))

    def _to_wire(self, levels: torch.Tensor) -> torch.Tensor:
        """[sides, B, bytes] uint8, in the order of the cache -> in the order of the wire."""
        if self._dtype != "int8":
            return levels
        slots, heads, dims = self._shape
        keys, values = _by_side(levels)
        keys = keys.view(*keys.shape[:2], slots, heads, dims // 4, 4).permute(0, 1, 3, 4, 2, 5)
        values = values.view(*values.shape[:2], slots // 2, 2, heads, dims)
        values = values.permute(0, 1, 4, 2, 5, 3)
        return _in_turn(keys.flatten(2) ^ KEY_SIGN, values.flatten(2))

    def _from_wire(self, levels: torch.Tensor) -> torch.Tensor:
        if self._dtype != "int8":
            return levels.contiguous()
        slots, heads, dims = self._shape
        keys, values = _by_side(levels)
        keys = keys.reshape(*keys.shape[:2], heads, dims // 4, slots, 4).permute(0, 1, 4, 2, 3, 5)
        values = values.reshape(*values.shape[:2], heads, slots // 2, dims, 2)
        values = values.permute(0, 1, 3, 5, 2, 4)
        return _in_turn(keys.flatten(2) ^ KEY_SIGN, values.flatten(2))

    def _scales_to_wire(self, scales: torch.Tensor) -> torch.Tensor:
        """[sides, B, slots * heads] -> the same, by head where the type asks for it."""
        return self._turned(scales, *self._shape[:2])

    def _scales_from_wire(self, scales: torch.Tensor) -> torch.Tensor:
        return self._turned(scales, self._shape[1], self._shape[0])

    def _turned(self, scales: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        if self._dtype != "int8":
            return scales
        turned = scales.view(*scales.shape[:2], rows, columns).transpose(2, 3)
        return turned.contiguous().flatten(2)


def _by_side(levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[layers * 2, ...] -> keys and values, each [layers, ...]."""
    return levels[0::2], levels[1::2]


def _in_turn(keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The reverse of `_by_side`."""
    return torch.stack((keys, values), 1).flatten(0, 1)


def _wide(blocks: torch.Tensor) -> torch.Tensor:
    """[sides, blocks, bytes] in the widest words that fit: copies move as many at a time."""
    for dtype in (torch.int64, torch.int32):
        if blocks.shape[2] % dtype.itemsize == 0:
            return blocks.view(dtype)
    return blocks
