"""A layout tells whether two workers may exchange KV, and how large a block is."""

import dataclasses

import pytest
from baton.common.errors import LayoutMismatch
from baton.handoff.layout import Extent, KvLayout

SMOLLM2 = KvLayout("rev", layers=30, kv_heads=3, head_size=64, block_size=16, dtype="float32")

OTHERS = {
    "model_revision": dataclasses.replace(SMOLLM2, model_revision="other"),
    "layers": dataclasses.replace(SMOLLM2, layers=31),
    "kv_heads": dataclasses.replace(SMOLLM2, kv_heads=4),
    "head_size": dataclasses.replace(SMOLLM2, head_size=32),
    "block_size": dataclasses.replace(SMOLLM2, block_size=32),
    "dtype": dataclasses.replace(SMOLLM2, dtype="bfloat16"),
}


def test_block_bytes_count_every_layer_key_and_value() -> None:
    assert SMOLLM2.block_bytes == 30 * 2 * 16 * 3 * 64 * 4
    assert dataclasses.replace(SMOLLM2, dtype="bfloat16").block_bytes * 2 == SMOLLM2.block_bytes
    in_8_bits = dataclasses.replace(SMOLLM2, dtype="int8")
    assert in_8_bits.block_bytes == 30 * 2 * 16 * 3 * (64 + 4)  # a float32 scale per vector
    assert in_8_bits.block_bytes < SMOLLM2.block_bytes / 3
    with pytest.raises(LayoutMismatch, match="dtype 'float32' here, 'int8' there"):
        SMOLLM2.require_same(in_8_bits)


def test_equal_layouts_have_equal_fingerprints_and_may_exchange() -> None:
    twin = dataclasses.replace(SMOLLM2)
    assert twin.fingerprint() == SMOLLM2.fingerprint()
    SMOLLM2.require_same(twin)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(KvLayout)])
def test_each_field_decides_and_is_named_with_both_fingerprints(field: str) -> None:
    other = OTHERS[field]
    with pytest.raises(LayoutMismatch) as raised:
        SMOLLM2.require_same(other)
    message = raised.value.message
    assert SMOLLM2.fingerprint() in message
    assert other.fingerprint() in message
    assert f"{field} {getattr(SMOLLM2, field)!r} here, {getattr(other, field)!r} there" in message
    unchanged = [name for name in OTHERS if name != field]
    assert not any(f"{name} " in message for name in unchanged)


def test_neighbouring_fields_cannot_be_confused() -> None:
    one = dataclasses.replace(SMOLLM2, layers=1, kv_heads=11)
    two = dataclasses.replace(SMOLLM2, layers=11, kv_heads=1)
    assert one.fingerprint() != two.fingerprint()


@pytest.mark.parametrize(
    ("tokens", "blocks", "full"), [(1, 1, 0), (15, 1, 0), (16, 1, 1), (17, 2, 1), (32, 2, 2)]
)
def test_extent_counts_partial_and_full_blocks(tokens: int, blocks: int, full: int) -> None:
    extent = Extent(tokens, 16)
    assert (extent.block_count, extent.full_block_count) == (blocks, full)


@pytest.mark.parametrize(("computed", "ready"), [(0, 0), (15, 0), (16, 1), (36, 2), (37, 3)])
def test_a_partial_block_is_ready_only_when_all_is_computed(computed: int, ready: int) -> None:
    assert Extent(37, 16).blocks_ready(computed) == ready
