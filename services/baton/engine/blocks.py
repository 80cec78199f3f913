"""The pool of KV blocks: who holds which, which prefixes they store, which goes when room is
needed.

A block is blank (nothing worth keeping), idle (nobody holds it, but its content is known by id and
may be shared again) or held (one or more references). Room is made from blank blocks first, then
from the least recently used idle ones. Knows block numbers and ids; knows no tensors, requests or
tokens.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from baton.common.errors import EngineFailure


class BlockPool:
    def __init__(self, block_count: int, block_size: int) -> None:
        self.block_count = block_count
        self.block_size = block_size  # tokens
        self._references = [0] * block_count
        self._ids: list[bytes | None] = [None] * block_count
        self._by_id: dict[bytes, int] = {}
        self._blank = list(range(block_count - 1, -1, -1))  # popped from the end: 0 goes first
        self._idle: OrderedDict[int, None] = OrderedDict()  # least recently used first
        self._changes: dict[bytes, bool] = {}  # id -> True: entered the cache, False: left it

    @property
    def free_count(self) -> int:
        """Blocks that `allocate` could hand out now."""
        return len(self._blank) + len(self._idle)

    @property
    def held_count(self) -> int:
        return self.block_count - self.free_count

    def blocks_for(self, tokens: int) -> int:
        """Blocks that `tokens` tokens fill, the last one perhaps in part."""
        return -(-tokens // self.block_size)

    def count_cached(self, ids: Sequence[bytes]) -> int:
        """How many of the leading `ids` are in the cache."""
        for count, identity in enumerate(ids):
            if identity not in self._by_id:
                return count
        return len(ids)

    def count_idle(self, ids: Sequence[bytes]) -> int:
        """How many of the cached `ids` nobody holds: sharing them takes from `free_count`."""
        return sum(self._by_id[identity] in self._idle for identity in ids)

    def share(self, ids: Sequence[bytes]) -> list[int]:
        """Take one more reference on each of these cached blocks. KeyError for an unknown id."""
        blocks = [self._by_id[identity] for identity in ids]
        for block in blocks:
            self._references[block] += 1
            self._idle.pop(block, None)
        return blocks

    def allocate(self, count: int) -> list[int]:
        """Take `count` blocks with no known content. EngineFailure, and no change, if too few are
        free."""
        if count > self.free_count:
            raise EngineFailure(f"asked for {count} KV blocks, {self.free_count} are free")
        blocks = [self._blank.pop() if self._blank else self._evict() for _ in range(count)]
        for block in blocks:
            self._references[block] = 1
        return blocks

    def release(self, blocks: Sequence[int]) -> None:
        """Give one reference on each block back.

        The last block of a sequence becomes idle first: it is the one least likely to be shared, so
        it is evicted before the beginning that it hangs on.
        """
        for block in reversed(blocks):
            if self._references[block] < 1:
                raise EngineFailure(f"KV block {block} released more often than held")
            self._references[block] -= 1
            if self._references[block] == 0:
                if self._ids[block] is None:
                    self._blank.append(block)
                else:
                    self._idle[block] = None

    def seal(self, block: int, identity: bytes) -> None:
        """Say that a held block is full and holds `identity`, for others to share.

        Where another block holds the same already, this one stays unknown: one copy in the cache is
        enough.
        """
        if self._references[block] < 1:
            raise EngineFailure(f"KV block {block} sealed while nobody holds it")
        if identity not in self._by_id and self._ids[block] is None:
            self._ids[block] = identity
            self._by_id[identity] = block
            self._note(identity, present=True)

    def cached_ids(self) -> tuple[bytes, ...]:
        return tuple(self._by_id)

    def take_changes(self) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Ids that entered and ids that left the cache since the last call."""
        changes, self._changes = self._changes, {}
        added = tuple(identity for identity, present in changes.items() if present)
        removed = tuple(identity for identity, present in changes.items() if not present)
        return added, removed

    def _evict(self) -> int:
        block, _ = self._idle.popitem(last=False)
        identity = self._ids[block]
        assert identity is not None
        del self._by_id[identity]
        self._ids[block] = None
        self._note(identity, present=False)
        return block

    def _note(self, identity: bytes, *, present: bool) -> None:
        if self._changes.get(identity) is (not present):
            del self._changes[identity]  # in and out (or out and in) between two reports: no change
        else:
            self._changes[identity] = present

    def audit(self, tables: Iterable[Sequence[int]]) -> None:
        """Check every invariant against the block tables of all requests. Raises EngineFailure."""
        expected = [0] * self.block_count
        for table in tables:
            if len(set(table)) != len(table):
                raise EngineFailure(f"block table {list(table)} holds a block twice")
            for block in table:
                expected[block] += 1
        if expected != self._references:
            raise EngineFailure(f"references {self._references} but tables say {expected}")
        free = sorted([*self._blank, *self._idle])
        if free != [block for block, count in enumerate(expected) if count == 0]:
            raise EngineFailure(f"free blocks {free} do not match references {expected}")
        if any(self._ids[block] is not None for block in self._blank):
            raise EngineFailure("a blank block has an id")
        if any(self._ids[block] is None for block in self._idle):
            raise EngineFailure("an idle block has no id")
        known = {identity: block for block, identity in enumerate(self._ids) if identity}
        if known != self._by_id:
            raise EngineFailure("the id index does not match the blocks' ids")
