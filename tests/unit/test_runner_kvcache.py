"""The KV cache's bytes: their order, their size, and what a wrong payload does."""

import numpy as np
import pytest
import torch
from baton.common.errors import TransferCorrupt
from baton.engine.kvcache import PagedKvCache
from support.random_model import CONFIG

LAYERS, SLOTS, KV_HEADS, HEAD_SIZE = CONFIG.layers, 4, CONFIG.kv_heads, CONFIG.head_size


def make_cache(dtype: torch.dtype = torch.float32, *, filled: bool = False) -> PagedKvCache:
    cache = PagedKvCache(CONFIG, block_count=10, block_size=SLOTS, dtype=dtype)
    if filled:
        generator = torch.Generator().manual_seed(0)
        for layer in range(LAYERS):
            for side in cache.layer(layer):
                side.copy_(torch.randn(side.shape, generator=generator))
    return cache


def test_a_payload_is_layer_side_block_slot_head_dim() -> None:
    cache = make_cache(filled=True)
    ids = [7, 2, 9]
    payload = np.frombuffer(cache.read_blocks(ids), np.float32)
    shaped = payload.reshape(LAYERS, 2, len(ids), SLOTS, KV_HEADS, HEAD_SIZE)
    for layer in range(LAYERS):
        for side, tensor in enumerate(cache.layer(layer)):
            for place, block in enumerate(ids):
                rows = tensor[block * SLOTS : (block + 1) * SLOTS].numpy()
                assert np.array_equal(shaped[layer, side, place], rows)


@pytest.mark.parametrize(("dtype", "width"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_block_bytes_count_all_layers_and_both_sides(dtype: torch.dtype, width: int) -> None:
    cache = make_cache(dtype)
    assert cache.block_bytes == LAYERS * 2 * SLOTS * KV_HEADS * HEAD_SIZE * width
    assert len(cache.read_blocks([1, 5])) == 2 * cache.block_bytes
    assert cache.read_blocks([]) == b""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_written_elsewhere_are_the_blocks_read(dtype: torch.dtype) -> None:
    source, target = make_cache(dtype, filled=True), make_cache(dtype)
    target.write_blocks([0, 8, 3], source.read_blocks([4, 1, 6]))
    assert target.read_blocks([8]) == source.read_blocks([1])
    assert target.read_blocks([3, 0]) == source.read_blocks([6, 4])
    assert target.read_blocks([1, 2, 4]) == make_cache(dtype).read_blocks([1, 2, 4])


@pytest.mark.parametrize("excess", [-1, 1, 4])
def test_a_payload_of_the_wrong_size_is_refused_and_changes_nothing(excess: int) -> None:
    cache = make_cache(filled=True)
    before = cache.read_blocks(range(10))
    payload = bytes(2 * cache.block_bytes + excess)
    with pytest.raises(TransferCorrupt, match=f"{2 * cache.block_bytes}"):
        cache.write_blocks([1, 2], payload)
    assert cache.read_blocks(range(10)) == before
