"""Dequantized values equal those of the `gguf` package, bit for bit, for every supported type."""

import gguf
import numpy as np
import pytest
from baton.engine.weights.dequantize import CHUNK_VALUES, dequantize
from baton.model.ggml import GgmlType
from numpy.typing import NDArray
from support.ggml_blocks import SCALES_AT, random_blocks

QUANTIZABLE = (GgmlType.Q8_0, GgmlType.Q4_0, GgmlType.Q4_1, GgmlType.Q5_0, GgmlType.Q5_1)


def oracle(packed: NDArray[np.uint8], kind: GgmlType) -> NDArray[np.float32]:
    values = gguf.dequantize(packed, gguf.GGMLQuantizationType[kind.name])
    return np.ascontiguousarray(values, dtype=np.float32)


def assert_same_bits(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
    assert np.array_equal(ours.ravel().view(np.uint32), theirs.ravel().view(np.uint32))


@pytest.mark.parametrize("kind", SCALES_AT)
def test_random_blocks_decode_as_the_gguf_package_decodes_them(kind: GgmlType) -> None:
    packed = random_blocks(kind, 96)
    shape = (12, 8 * kind.block_values)
    ours = dequantize(packed.reshape(-1), kind, shape)
    assert tuple(ours.shape) == shape
    assert_same_bits(ours, oracle(packed, kind))


@pytest.mark.parametrize("kind", QUANTIZABLE)
def test_quantized_weights_decode_as_the_gguf_package_decodes_them(kind: GgmlType) -> None:
    weights = np.random.default_rng(7).normal(0, 0.02, (16, 256)).astype(np.float32)
    packed = gguf.quantize(weights, gguf.GGMLQuantizationType[kind.name])
    ours = dequantize(packed.reshape(-1), kind, (16, 256))
    assert_same_bits(ours, oracle(packed, kind))
    assert np.abs(ours - weights).max() < 0.01  # and they are the weights


@pytest.mark.parametrize("kind", [GgmlType.F32, GgmlType.F16, GgmlType.BF16])
def test_plain_floats_keep_their_values(kind: GgmlType) -> None:
    weights = np.random.default_rng(3).normal(0, 1, (5, 7)).astype(np.float32)
    packed = gguf.quantize(weights, gguf.GGMLQuantizationType[kind.name]).view(np.uint8)
    ours = dequantize(packed.reshape(-1), kind, (5, 7))
    assert_same_bits(ours, oracle(packed.reshape(5, -1), kind))
    assert np.abs(ours - weights).max() < {"F32": 1e-9, "F16": 2e-3, "BF16": 2e-2}[kind.name]


def test_a_tensor_of_more_than_one_chunk_is_decoded_to_its_end() -> None:
    packed = random_blocks(GgmlType.Q4_K, CHUNK_VALUES // 256 + 3)
    ours = dequantize(packed.reshape(-1), GgmlType.Q4_K, (packed.shape[0], 256))
    assert_same_bits(ours, oracle(packed, GgmlType.Q4_K))


def test_the_result_does_not_share_memory_with_the_file() -> None:
    packed = np.zeros(64, dtype=np.uint8)
    packed.setflags(write=False)
    ours = dequantize(packed, GgmlType.F32, (16,))
    ours += 1
    assert not packed.any()
