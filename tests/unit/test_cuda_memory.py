"""KV blocks get what is free after everything else, and graphs come in the sizes that pay."""

import pytest
from baton.common.errors import ConfigError
from baton.engine.cuda.graphs import graph_sizes, padded_size
from baton.engine.cuda.memory import MIB, SPARE_BYTES, DeviceMemory, graphs_bytes, pool_blocks

GIB = 1024 * MIB


def test_blocks_fill_the_fraction_that_others_leave() -> None:
    memory = DeviceMemory(free=60 * GIB, total=100 * GIB)  # 40 GiB are taken, by whomever
    blocks = pool_blocks(memory, fraction=0.9, reserved_bytes=2 * GIB, block_bytes=2 * MIB)
    assert blocks * 2 * MIB == 48 * GIB


def test_the_whole_device_leaves_something_for_libraries() -> None:
    memory = DeviceMemory(free=10 * GIB, total=10 * GIB)
    blocks = pool_blocks(memory, fraction=1.0, reserved_bytes=0, block_bytes=MIB)
    assert blocks * MIB == 10 * GIB - SPARE_BYTES


def test_no_room_says_what_takes_it() -> None:
    memory = DeviceMemory(free=1 * GIB, total=10 * GIB)
    with pytest.raises(ConfigError, match="9216 MiB are taken"):
        pool_blocks(memory, fraction=0.9, reserved_bytes=0, block_bytes=MIB)


def test_graphs_take_what_one_took_times_their_number() -> None:
    before, after = DeviceMemory(100, 200), DeviceMemory(93, 200)
    assert graphs_bytes(before, after, captured=1, wanted=5) == 35
    # another process gave memory back meanwhile
    assert graphs_bytes(after, before, captured=1, wanted=5) == 0


@pytest.mark.parametrize("largest", [1, 2, 3, 7, 8, 9, 31, 64, 100, 256, 512])
def test_every_batch_finds_a_graph_with_little_padding(largest: int) -> None:
    sizes = graph_sizes(largest)
    assert sizes[-1] == largest
    assert list(sizes) == sorted(set(sizes))
    for sequences in range(1, largest + 1):
        size = padded_size(sequences, sizes)
        assert size is not None
        assert sequences <= size < max(sequences + 8, 1.25 * sequences)
    assert padded_size(largest + 1, sizes) is None


def test_huge_batches_are_launched_kernel_by_kernel() -> None:
    assert graph_sizes(4_000)[-1] == 512
