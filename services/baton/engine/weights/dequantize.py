"""Decodes GGUF tensor bytes into float32, block format by block format.

Knows bytes only; knows no files and no models. Results equal those of the `gguf` package bit for
bit: the operations and their order are the format's own.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from baton.model.ggml import GgmlType

# Values decoded at once. The temporaries of a chunk (some 20 bytes a value) stay near the
# processor's caches, and far below the tensor itself, which may have 500 million values.
CHUNK_VALUES = 1 << 18

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Decode = Callable[[Bytes], Floats]


def dequantize(packed: Bytes, kind: GgmlType, shape: tuple[int, ...]) -> Floats:
    """`packed` ([bytes], as in the file) as a float32 array of `shape`, of its own memory."""
    values = math.prod(shape)
    blocks = packed.reshape(values // kind.block_values, kind.block_bytes)
    decoded = np.empty((len(blocks), kind.block_values), np.float32)
    step = CHUNK_VALUES // kind.block_values
    for first in range(0, len(blocks), step):
        decoded[first : first + step] = _DECODERS[kind](blocks[first : first + step])
    return decoded.reshape(shape)


# Every decoder below: uint8 [n, block_bytes] -> float32 [n, block_values].


def _f32(blocks: Bytes) -> Floats:
    return np.ascontiguousarray(blocks).view(np.float32)


def _f16(blocks: Bytes) -> Floats:
    return np.ascontiguousarray(blocks).view(np.float16).astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    bits = np.ascontiguousarray(blocks).view(np.uint16).astype(np.uint32)
    bits <<= 16
    return bits.view(np.float32)


def _half(blocks: Bytes, at: int) -> Floats:
    """The float16 at byte `at` of each block, as float32 [n, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """[n, b] bytes -> [n, 2b]: all low nibbles, then all high ones."""
    return np.concatenate((packed & 0x0F, packed >> 4), axis=1)


def _bits(packed: Bytes) -> Bytes:
    """[n, b] bytes -> [n, 8b], lowest bit first."""
    return np.unpackbits(packed, axis=1, bitorder="little")


def _floats(levels: NDArray[np.uint8] | NDArray[np.int8]) -> Floats:
    return levels.astype(np.float32)


def _q8_0(blocks: Bytes) -> Floats:
    values = _floats(blocks[:, 2:].view(np.int8))
    values *= _half(blocks, 0)
    return values


def _q4_0(blocks: Bytes) -> Floats:
    values = _floats(_nibbles(blocks[:, 2:]).view(np.int8) - np.int8(8))
    values *= _half(blocks, 0)
    return values


def _q4_1(blocks: Bytes) -> Floats:
    values = _floats(_nibbles(blocks[:, 4:]))
    values *= _half(blocks, 0)
    values += _half(blocks, 2)
    return values


def _q5_0(blocks: Bytes) -> Floats:
    levels = _nibbles(blocks[:, 6:]) | (_bits(blocks[:, 2:6]) << 4)
    values = _floats(levels.view(np.int8) - np.int8(16))
    values *= _half(blocks, 0)
    return values


def _q5_1(blocks: Bytes) -> Floats:
    values = _floats(_nibbles(blocks[:, 8:]) | (_bits(blocks[:, 4:8]) << 4))
    values *= _half(blocks, 0)
    values += _half(blocks, 2)
    return values


def _k_scales(packed: Bytes) -> tuple[Floats, Floats]:
    """6-bit scales and minima of the 8 sub-blocks: [n, 12] bytes -> two of [n, 8]."""
    low, mid, high = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate((low & 0x3F, (high & 0x0F) | ((low >> 2) & 0x30)), axis=1)
    minima = np.concatenate((mid & 0x3F, (high >> 4) | ((mid >> 2) & 0x30)), axis=1)
    return _floats(scales), _floats(minima)


def _k_levels(packed: Bytes) -> Bytes:
    """4-bit levels of 256 values in 8 sub-blocks: each 32 bytes hold two of them. -> [n, 8, 32]"""
    chunks = packed.reshape(-1, 4, 1, 32)
    return np.concatenate((chunks & 0x0F, chunks >> 4), axis=2).reshape(-1, 8, 32)


def _k_values(blocks: Bytes, levels: Bytes) -> Floats:
    """scale * level - minimum, of sub-blocks [n, 8, 32], for Q4_K and Q5_K."""
    scales, minima = _k_scales(blocks[:, 4:16])
    values = _floats(levels)
    values *= (_half(blocks, 0) * scales)[:, :, None]
    values -= (_half(blocks, 2) * minima)[:, :, None]
    return values.reshape(len(blocks), -1)


def _q4_k(blocks: Bytes) -> Floats:
    return _k_values(blocks, _k_levels(blocks[:, 16:144]))


def _q5_k(blocks: Bytes) -> Floats:
    # byte i of the high bits belongs to value i of each sub-block, bit j of it to sub-block j
    high = _bits(blocks[:, 16:48]).reshape(-1, 32, 8).swapaxes(1, 2)
    levels = _k_levels(blocks[:, 48:176])
    levels |= high << 4
    return _k_values(blocks, levels)


def _q6_k(blocks: Bytes) -> Floats:
    low = blocks[:, 0:128].reshape(-1, 2, 1, 64)
    low = np.concatenate((low & 0x0F, low >> 4), axis=2).reshape(-1, 2, 4, 32)
    shifts = np.array((0, 2, 4, 6), np.uint8).reshape(1, 1, 4, 1)
    high = (blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shifts) & 0x03
    # [n, half, quarter, 32]
    values = _floats((low | (high << 4)).view(np.int8) - np.int8(32)).reshape(-1, 16, 16)
    scales = _half(blocks, 208) * _floats(blocks[:, 192:208].view(np.int8))  # [n, 16]
    values *= scales[:, :, None]
    return values.reshape(len(blocks), -1)


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
