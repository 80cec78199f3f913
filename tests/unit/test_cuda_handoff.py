"""Blocks leave a device in the order CPU workers read, and come back to their places."""

import numpy as np
import pytest
import torch
from baton.common.errors import TransferCorrupt
from baton.engine.cuda.handoff import BUFFERS, DeviceKvStore
from baton.engine.cuda.kvcache import DeviceKvCache
from baton.engine.kvcache import PagedKvCache
from baton.engine.kvside import TorchKv
from baton.model.config import Family, ModelConfig
from support.fake_device import FakeDevice

CONFIG = ModelConfig(
    family=Family.LLAMA,
    vocab_size=64,
    hidden_size=32,
    intermediate_size=32,
    layers=3,
    heads=4,
    kv_heads=2,
    head_size=16,
    context_length=256,
    rms_norm_eps=1e-6,
    rope_theta=10_000.0,
)
BLOCK_SIZE = 16
BLOCKS = 12
SENT, KEPT = [7, 2, 11, 0, 5], [1, 9, 4, 3, 8]  # places here, places there


def device_cache(dtype: str) -> DeviceKvCache:
    return DeviceKvCache(
        CONFIG,
        block_count=BLOCKS,
        block_size=BLOCK_SIZE,
        dtype=dtype,
        device=torch.device("cpu"),
    )


def store(cache: DeviceKvCache, *, chunk_blocks: int) -> DeviceKvStore:
    return DeviceKvStore(cache, FakeDevice(), chunk_bytes=chunk_blocks * cache.block_bytes)


def cpu_cache(dtype: str) -> PagedKvCache:
    return PagedKvCache(CONFIG, block_count=BLOCKS, block_size=BLOCK_SIZE, dtype=dtype)


def filled_cpu_cache(dtype: str) -> tuple[PagedKvCache, torch.Tensor]:
    """With random vectors in the blocks to be sent: [layers, 2, T, kv_heads, head_size], as read
    back."""
    cache = cpu_cache(dtype)
    kv = TorchKv(cache)
    generator = torch.Generator().manual_seed(3)
    slots = torch.cat([torch.arange(BLOCK_SIZE) + block * BLOCK_SIZE for block in SENT])
    shape = (len(slots), CONFIG.kv_heads, CONFIG.head_size)
    found = []
    for layer in range(CONFIG.layers):
        for side in kv.layer(layer):
            side.write(slots, torch.randn(shape, generator=generator))
            found.append(side.read(slots))
    return cache, torch.stack(found).view(CONFIG.layers, 2, *shape)


def vectors(cache: DeviceKvCache, blocks: list[int]) -> torch.Tensor:
    """What some blocks hold, as numbers: [layers, 2, T, kv_heads, head_size]."""
    held = cache.vectors.float()
    if cache.scales is not None:
        held = held * cache.scales[..., None]
    return held[:, :, blocks].flatten(2, 3)


@pytest.mark.parametrize("chunk_blocks", [1, 2, 64], ids=["one", "two", "all"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_blocks_of_a_cpu_worker_mean_the_same_on_the_device(dtype: str, chunk_blocks: int) -> None:
    sender, expected = filled_cpu_cache(dtype)
    cache = device_cache(dtype)
    payload = sender.read_blocks(SENT)
    there = store(cache, chunk_blocks=chunk_blocks)
    there.write_blocks(KEPT, payload)
    torch.testing.assert_close(vectors(cache, KEPT), expected)
    # and back: the same bytes, so a CPU worker reads what it would have read from its like
    assert there.read_blocks(KEPT) == payload
    others = [block for block in range(BLOCKS) if block not in KEPT]
    assert not vectors(cache, others).any()


def test_fp8_blocks_keep_their_bits_between_devices() -> None:
    here, there = device_cache("fp8"), device_cache("fp8")
    generator = np.random.default_rng(1)
    bits = generator.integers(0, 0x7E, here.vectors.shape, dtype=np.uint8)
    here.vectors.view(torch.uint8).copy_(torch.from_numpy(bits))
    assert here.scales is not None
    here.scales.uniform_(0.1, 2.0, generator=torch.Generator().manual_seed(2))
    payload = store(here, chunk_blocks=2).read_blocks(SENT)
    store(there, chunk_blocks=3).write_blocks(KEPT, payload)
    assert torch.equal(vectors(there, KEPT), vectors(here, SENT))


def test_a_payload_of_another_size_is_refused() -> None:
    cache = device_cache("bfloat16")
    with pytest.raises(TransferCorrupt, match="expected"):
        store(cache, chunk_blocks=1).write_blocks([1, 2], bytes(cache.block_bytes))


def test_pinned_memory_is_bounded_whatever_is_sent() -> None:
    cache = device_cache("float32")
    held = store(cache, chunk_blocks=1)
    held.read_blocks(list(range(BLOCKS)))
    assert held.pinned_bytes == BUFFERS * cache.block_bytes + 8 * BLOCKS
