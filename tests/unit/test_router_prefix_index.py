"""Who holds which leading blocks."""

from baton.router.prefix_index import PrefixIndex

A, B, C, D = (bytes([n]) * 16 for n in range(4))


def test_leading_blocks_are_counted_from_the_front_until_the_first_miss() -> None:
    index = PrefixIndex()
    index.add("x:1", [A, B, C])
    index.add("y:1", [A, C])
    assert index.leading_blocks([A, B, C, D]) == {"x:1": 3, "y:1": 1}
    assert index.leading_blocks([B, C]) == {"x:1": 2}
    assert index.leading_blocks([D, A]) == {}
    assert index.leading_blocks([]) == {}


def test_nothing_is_asked_for_beyond_the_first_block_that_nobody_holds() -> None:
    index, asked = PrefixIndex(), []
    index.add("x:1", [A])

    def ids() -> object:
        for block_id in (A, B, C, D):
            asked.append(block_id)
            yield block_id

    index.leading_blocks(ids())  # type: ignore[arg-type]
    assert asked == [A, B]


def test_blocks_that_left_a_cache_and_workers_that_left_count_no_more() -> None:
    index = PrefixIndex()
    index.add("x:1", [A, B])
    index.add("y:1", [A, B])
    index.remove("x:1", [B, D])
    assert index.leading_blocks([A, B]) == {"x:1": 1, "y:1": 2}
    index.forget("y:1")
    assert index.leading_blocks([A, B]) == {"x:1": 1}
    index.forget("x:1")
    assert len(index) == 0


def test_a_new_worker_does_not_inherit_from_one_that_left() -> None:
    index = PrefixIndex()
    index.add("x:1", [A])
    index.add("y:1", [B])
    index.forget("x:1")
    index.add("z:1", [C])
    assert index.leading_blocks([A]) == {}
    assert index.leading_blocks([C]) == {"z:1": 1}
    index.audit()


def test_a_full_index_takes_no_new_ids_but_notes_who_else_holds_those_it_has() -> None:
    index = PrefixIndex(ids_max=2)
    index.add("x:1", [A, B, C])
    index.add("y:1", [A, C])
    assert len(index) == 2
    assert index.leading_blocks([A, B, C]) == {"x:1": 2, "y:1": 1}
    index.audit()
