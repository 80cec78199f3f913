"""The KV cache's bytes: their order, their size, and what a wrong payload does."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from baton.common.errors import ConfigError, TransferCorrupt
from baton.engine.kvcache import TOUCHED_BYTES, PagedKvCache
from baton.engine.kvside import TorchKv
from support.random_model import CONFIG

LAYERS, SLOTS, KV_HEADS, HEAD_SIZE = CONFIG.layers, 16, CONFIG.kv_heads, CONFIG.head_size


def make_cache(dtype: str = "float32", *, filled: bool = False) -> PagedKvCache:
    cache = PagedKvCache(CONFIG, block_count=10, block_size=SLOTS, dtype=dtype)
    if filled:
        generator = torch.Generator().manual_seed(0)
        for layer in range(LAYERS):
            for side in TorchKv(cache).layer(layer):
                vectors = torch.randn(10 * SLOTS, KV_HEADS, HEAD_SIZE, generator=generator)
                side.write(torch.arange(10 * SLOTS), vectors)
    return cache


def test_touching_goes_through_all_of_the_memory_once_and_changes_nothing() -> None:
    cache = PagedKvCache(CONFIG, block_count=4_000, block_size=SLOTS, dtype="float32")
    cache.write_blocks([5], bytes(range(256)) * (cache.block_bytes // 256))
    before = cache.read_blocks([5, 6])
    touched = 0
    while cache.touch():
        touched += TOUCHED_BYTES
    assert touched == 0 or 0 <= touched - cache.sides.nbytes < TOUCHED_BYTES
    assert not cache.touch()
    assert cache.read_blocks([5, 6]) == before
    cache.clear()
    assert cache.touch() == bool(touched)


def test_a_payload_is_layer_side_block_slot_head_dim() -> None:
    cache = make_cache(filled=True)
    ids = [7, 2, 9]
    payload = np.frombuffer(cache.read_blocks(ids), np.float32)
    shaped = payload.reshape(LAYERS, 2, len(ids), SLOTS, KV_HEADS, HEAD_SIZE)
    for layer in range(LAYERS):
        for side, held in enumerate(TorchKv(cache).layer(layer)):
            for place, block in enumerate(ids):
                rows = held.read(torch.arange(block * SLOTS, (block + 1) * SLOTS)).numpy()
                assert np.array_equal(shaped[layer, side, place], rows)


def test_a_payload_of_levels_lies_as_the_kernels_read_it() -> None:
    cache = make_cache("int8", filled=True)
    sides = np.frombuffer(cache.read_blocks([7, 2]), np.uint8).reshape(LAYERS, 2, 2, -1)
    levels, scales = np.split(sides, [SLOTS * KV_HEADS * HEAD_SIZE], axis=-1)
    worth = np.ascontiguousarray(scales).view(np.float32).reshape(LAYERS, 2, 2, KV_HEADS, SLOTS)
    keys = levels[:, 0].reshape(LAYERS, 2, KV_HEADS, HEAD_SIZE // 4, SLOTS, 4).astype(int) - 128
    values = levels[:, 1].view(np.int8).reshape(LAYERS, 2, KV_HEADS, SLOTS // 2, HEAD_SIZE, 2)
    for layer, slot, head in itertools.product(range(LAYERS), range(SLOTS), range(KV_HEADS)):
        for side, own in (
            (0, keys[layer, 0, head, :, slot].reshape(-1)),
            (1, values[layer, 0, head, slot // 2, :, slot % 2]),
        ):
            held = TorchKv(cache).layer(layer)[side]
            vector = held.read(torch.tensor([7 * SLOTS + slot]))[0, head]
            assert np.abs(own).max() == 127
            own = own.astype(np.float32) * worth[layer, side, 0, head, slot]
            assert np.array_equal(own, vector.numpy())


def test_blocks_and_heads_that_8_bits_cannot_hold_are_refused_with_both_reasons() -> None:
    config = replace(CONFIG, head_size=24)
    with pytest.raises(ConfigError, match=r"block_size is 8.*heads of 24 values"):
        PagedKvCache(config, block_count=4, block_size=8, dtype="int8")
    PagedKvCache(config, block_count=4, block_size=8, dtype="bfloat16")


def test_levels_err_by_half_a_step_of_their_own_vector() -> None:
    cache = make_cache("int8")
    keys, _ = TorchKv(cache).layer(0)
    sizes = torch.tensor([1e-6, 1.0, 300.0, 0.0])[:, None, None]
    vectors = torch.randn(4, KV_HEADS, HEAD_SIZE) * sizes
    keys.write(torch.tensor([9, 3, 30, 11]), vectors)
    error = (keys.read(torch.tensor([9, 3, 30, 11])) - vectors).abs()
    assert (error <= vectors.abs().amax(-1, keepdim=True) / 127 * 0.50001).all()


@pytest.mark.parametrize(
    ("dtype", "vector_bytes"),
    [
        ("float32", 4 * HEAD_SIZE),
        ("bfloat16", 2 * HEAD_SIZE),
        ("int8", HEAD_SIZE + 4),
    ],
)
def test_block_bytes_count_all_layers_and_both_sides(dtype: str, vector_bytes: int) -> None:
    cache = make_cache(dtype)
    assert cache.block_bytes == LAYERS * 2 * SLOTS * KV_HEADS * vector_bytes
    assert len(cache.read_blocks([1, 5])) == 2 * cache.block_bytes
    assert cache.read_blocks([]) == b""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_blocks_written_elsewhere_are_the_blocks_read(dtype: str) -> None:
    source, target = make_cache(dtype, filled=True), make_cache(dtype)
    target.write_blocks([0, 8, 3], source.read_blocks([4, 1, 6]))
    assert target.read_blocks([8]) == source.read_blocks([1])
    assert target.read_blocks([3, 0]) == source.read_blocks([6, 4])
    assert target.read_blocks([1, 2, 4]) == make_cache(dtype).read_blocks([1, 2, 4])


def test_a_cleared_cache_is_as_new_at_the_same_place() -> None:
    cache = make_cache(filled=True)
    keys, _ = TorchKv(cache).layer(0)
    cache.clear()
    assert cache.read_blocks(range(10)) == make_cache().read_blocks(range(10))
    keys.write(torch.tensor([3]), torch.ones(1, KV_HEADS, HEAD_SIZE))
    assert np.frombuffer(cache.read_blocks([0]), np.float32).sum() == KV_HEADS * HEAD_SIZE


@pytest.mark.parametrize("excess", [-1, 1, 4])
def test_a_payload_of_the_wrong_size_is_refused_and_changes_nothing(excess: int) -> None:
    cache = make_cache(filled=True)
    before = cache.read_blocks(range(10))
    payload = bytes(2 * cache.block_bytes + excess)
    with pytest.raises(TransferCorrupt, match=f"{2 * cache.block_bytes}"):
        cache.write_blocks([1, 2], payload)
    assert cache.read_blocks(range(10)) == before
