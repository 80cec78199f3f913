"""The block pool shares, keeps and evicts; its audit finds what does not add up."""

import pytest
from baton.common.errors import EngineFailure
from baton.engine.blocks import BlockPool


def ids(*names: str) -> list[bytes]:
    return [name.encode() for name in names]


def test_blank_blocks_go_before_cached_ones_and_the_oldest_cached_goes_first() -> None:
    pool = BlockPool(3, block_size=4)
    old, new, plain = pool.allocate(3)
    pool.seal(old, b"old")
    pool.seal(new, b"new")
    pool.release([old])
    pool.release([new])
    pool.release([plain])
    assert pool.allocate(1) == [plain]
    assert pool.allocate(1) == [old]
    assert pool.count_cached(ids("new")) == 1
    assert pool.count_cached(ids("old")) == 0


def test_the_tail_of_a_sequence_is_evicted_before_its_beginning() -> None:
    pool = BlockPool(2, block_size=4)
    first, second = pool.allocate(2)
    pool.seal(first, b"a")
    pool.seal(second, b"ab")
    pool.release([first, second])
    assert pool.allocate(1) == [second]
    assert pool.count_cached(ids("a", "ab")) == 1


def test_a_shared_block_is_free_only_when_all_have_released_it() -> None:
    pool = BlockPool(1, block_size=4)
    (block,) = pool.allocate(1)
    pool.seal(block, b"a")
    assert pool.share(ids("a")) == [block]
    pool.release([block])
    assert pool.free_count == 0
    pool.release([block])
    assert pool.free_count == 1
    assert pool.count_idle(ids("a")) == 1


def test_only_one_block_is_known_for_the_same_content() -> None:
    pool = BlockPool(2, block_size=4)
    one, two = pool.allocate(2)
    pool.seal(one, b"a")
    pool.seal(two, b"a")
    assert pool.cached_ids() == (b"a",)
    pool.release([one, two])
    assert pool.share(ids("a")) == [one]
    pool.audit([[one]])


def test_changes_between_two_reports_are_net() -> None:
    pool = BlockPool(1, block_size=4)
    (block,) = pool.allocate(1)
    pool.seal(block, b"a")
    assert pool.take_changes() == ((b"a",), ())
    pool.release([block])
    (block,) = pool.allocate(1)
    pool.seal(block, b"b")
    pool.release([block])
    (block,) = pool.allocate(1)
    assert pool.take_changes() == ((), (b"a",))
    pool.seal(block, b"a")
    assert pool.take_changes() == ((b"a",), ())


def test_asking_for_more_than_is_free_changes_nothing() -> None:
    pool = BlockPool(2, block_size=4)
    held = pool.allocate(1)
    with pytest.raises(EngineFailure, match="asked for 2 KV blocks, 1 are free"):
        pool.allocate(2)
    pool.audit([held])


def test_releasing_twice_and_sealing_a_free_block_are_refused() -> None:
    pool = BlockPool(1, block_size=4)
    (block,) = pool.allocate(1)
    pool.release([block])
    with pytest.raises(EngineFailure, match="released more often"):
        pool.release([block])
    with pytest.raises(EngineFailure, match="nobody holds"):
        pool.seal(block, b"a")


def test_audit_finds_a_leak_a_double_and_a_stranger() -> None:
    pool = BlockPool(3, block_size=4)
    table = pool.allocate(2)
    pool.audit([table])
    with pytest.raises(EngineFailure, match="references"):
        pool.audit([])
    with pytest.raises(EngineFailure, match="twice"):
        pool.audit([[table[0], table[0]]])
    with pytest.raises(EngineFailure, match="references"):
        pool.audit([table, [table[0]]])
