"""Decodes GGUF tensor bytes into float32, block format by block format.

Knows bytes only; knows no files and no models. Results equal those of the `gguf` package bit for
bit: the operations and their order are the format's own.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from baton.model.ggml import GgmlType

# Values decoded at once. The temporaries of a chunk (some 20 bytes a value) stay near the
# processor's caches, and far below the tensor itself, which may have 500 million values.
CHUNK_VALUES = 1 << 20

Decode = Callable[[torch.Tensor], torch.Tensor]


def dequantize(packed: NDArray[np.uint8], kind: GgmlType, shape: tuple[int, ...]) -> torch.Tensor:
    """`packed` ([bytes], as in the file) as a float32 tensor of `shape`."""
    values = math.prod(shape)
    blocks = packed.reshape(values // kind.block_values, kind.block_bytes)
    out = torch.empty(values, dtype=torch.float32)
    decoded = out.view(len(blocks), kind.block_values)
    step = CHUNK_VALUES // kind.block_values
    for first in range(0, len(blocks), step):
        # a copy: torch wants writable memory, and the file's map is read-only
        chunk = torch.from_numpy(blocks[first : first + step].copy())
        decoded[first : first + step] = _DECODERS[kind](chunk)
    return out.view(shape)


# Every decoder below: uint8 [n, block_bytes] -> float32 [n, block_values].


def _f32(blocks: torch.Tensor) -> torch.Tensor:
    return blocks.view(torch.float32)


def _f16(blocks: torch.Tensor) -> torch.Tensor:
    return blocks.view(torch.float16).float()


def _bf16(blocks: torch.Tensor) -> torch.Tensor:
    return blocks.view(torch.bfloat16).float()


def _half(blocks: torch.Tensor, at: int) -> torch.Tensor:
    """The float16 at byte `at` of each block, as float32 [n, 1]."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()


def _nibbles(packed: torch.Tensor) -> torch.Tensor:
    """[n, b] bytes -> [n, 2b]: all low nibbles, then all high ones."""
    return torch.cat((packed & 0x0F, packed >> 4), dim=1)


def _bits(packed: torch.Tensor) -> torch.Tensor:
    """[n, b] bytes -> [n, 8b], lowest bit first."""
    places = torch.arange(8, dtype=torch.uint8)
    return ((packed.unsqueeze(2) >> places) & 1).flatten(1)


def _q8_0(blocks: torch.Tensor) -> torch.Tensor:
    return _half(blocks, 0) * blocks[:, 2:].view(torch.int8).float()


def _q4_0(blocks: torch.Tensor) -> torch.Tensor:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]).to(torch.int8) - 8).float()


def _q4_1(blocks: torch.Tensor) -> torch.Tensor:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:]).float() + _half(blocks, 2)


def _q5_0(blocks: torch.Tensor) -> torch.Tensor:
    levels = _nibbles(blocks[:, 6:]) | (_bits(blocks[:, 2:6]) << 4)
    return _half(blocks, 0) * (levels.to(torch.int8) - 16).float()


def _q5_1(blocks: torch.Tensor) -> torch.Tensor:
    levels = _nibbles(blocks[:, 8:]) | (_bits(blocks[:, 4:8]) << 4)
    return _half(blocks, 0) * levels.float() + _half(blocks, 2)


def _k_scales(packed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """6-bit scales and minima of the 8 sub-blocks: [n, 12] bytes -> two of [n, 8, 1]."""
    low, mid, high = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = torch.cat((low & 0x3F, (high & 0x0F) | ((low >> 2) & 0x30)), dim=1)
    minima = torch.cat((mid & 0x3F, (high >> 4) | ((mid >> 2) & 0x30)), dim=1)
    return scales.float().unsqueeze(2), minima.float().unsqueeze(2)


def _k_levels(packed: torch.Tensor) -> torch.Tensor:
    """4-bit levels of 256 values in 8 sub-blocks: each 32 bytes hold two of them. -> [n, 8, 32]"""
    chunks = packed.view(-1, 4, 1, 32)
    return torch.cat((chunks & 0x0F, chunks >> 4), dim=2).view(-1, 8, 32)


def _k_values(blocks: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """scale * level - minimum, of sub-blocks [n, 8, 32], for Q4_K and Q5_K."""
    scales, minima = _k_scales(blocks[:, 4:16])
    scale = _half(blocks, 0).unsqueeze(2) * scales
    minimum = _half(blocks, 2).unsqueeze(2) * minima
    return (scale * levels.float() - minimum).flatten(1)


def _q4_k(blocks: torch.Tensor) -> torch.Tensor:
    return _k_values(blocks, _k_levels(blocks[:, 16:144].contiguous()))


def _q5_k(blocks: torch.Tensor) -> torch.Tensor:
    # byte i of the high bits belongs to value i of each sub-block, bit j of it to sub-block j
    high = _bits(blocks[:, 16:48]).view(-1, 32, 8).transpose(1, 2)
    return _k_values(blocks, _k_levels(blocks[:, 48:176].contiguous()) | (high << 4))


def _q6_k(blocks: torch.Tensor) -> torch.Tensor:
    low = blocks[:, 0:128].contiguous().view(-1, 2, 1, 64)
    low = torch.cat((low & 0x0F, low >> 4), dim=2).view(-1, 2, 4, 32)
    shifts = torch.tensor((0, 2, 4, 6), dtype=torch.uint8).view(1, 1, 4, 1)
    high = (blocks[:, 128:192].contiguous().view(-1, 2, 1, 32) >> shifts) & 0x03
    levels = ((low | (high << 4)).to(torch.int8) - 32).float()  # [n, half, quarter, 32]
    scales = _half(blocks, 208) * blocks[:, 192:208].view(torch.int8).float()  # [n, 16]
    return (scales.unsqueeze(2) * levels.view(-1, 16, 16)).flatten(1)


_DECODERS: dict[GgmlType, Decode] = {
    GgmlType.F32: _f32,
    GgmlType.F16: _f16,
    GgmlType.BF16: _bf16,
    GgmlType.Q8_0: _q8_0,
    GgmlType.Q4_0: _q4_0,
    GgmlType.Q4_1: _q4_1,
    GgmlType.Q5_0: _q5_0,
    GgmlType.Q5_1: _q5_1,
    GgmlType.Q4_K: _q4_k,
    GgmlType.Q5_K: _q5_k,
    GgmlType.Q6_K: _q6_k,
}
