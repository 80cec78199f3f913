"""Which workers hold the KV of which leading blocks: block id -> bitmask of workers.

Pure. Ids are prefix-closed (a block's id binds all before it), so a lookup walks from the front and
stops where nobody follows. Knows ids and addresses; knows neither tokens nor caches.
"""

from collections.abc import Iterable

IDS_MAX = 1_000_000
"""About 150 MiB of dict; 16 million tokens in blocks of 16. Above it new ids are not taken in: a
prefix then counts as uncached, which costs a worse choice and never a wrong answer."""


class PrefixIndex:
    def __init__(self, *, ids_max: int = IDS_MAX) -> None:
        self._ids_max = ids_max
        self._holders: dict[bytes, int] = {}  # id -> bitmask over slots
        self._held: dict[str, set[bytes]] = {}  # by address, so that a worker can be forgotten
        self._slots: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def add(self, address: str, ids: Iterable[bytes]) -> None:
        bit, held = 1 << self._slot(address), self._held[address]
        for block_id in ids:
            mask = self._holders.get(block_id)
            if mask is None and len(self._holders) >= self._ids_max:
                continue
            self._holders[block_id] = (mask or 0) | bit
            held.add(block_id)

    def remove(self, address: str, ids: Iterable[bytes]) -> None:
        if address not in self._slots:
            return
        bit, held = 1 << self._slots[address], self._held[address]
        for block_id in ids:
            if block_id in held:
                held.discard(block_id)
                self._clear(block_id, bit)

    def forget(self, address: str) -> None:
        """The worker is gone or tells all it holds anew."""
        slot = self._slots.pop(address, None)
        if slot is None:
            return
        for block_id in self._held.pop(address):
            self._clear(block_id, 1 << slot)

    def leading_blocks(self, ids: Iterable[bytes]) -> dict[str, int]:
        """By address: how many blocks, from the front, the worker holds; absent: none. `ids` may be
        lazy: none is asked for beyond the first that nobody holds."""
        counts: dict[str, int] = {}
        walking = -1  # all workers
        for number, block_id in enumerate(ids, start=1):
            walking &= self._holders.get(block_id, 0)
            if not walking:
                break
            for address, slot in self._slots.items():
                if walking >> slot & 1:
                    counts[address] = number
        return counts

    def audit(self) -> None:
        """Check both sides of the index against each other."""
        for address, slot in self._slots.items():
            there = {i for i, mask in self._holders.items() if mask >> slot & 1}
            assert there == self._held[address], f"the index disagrees about {address}"
        known = sum(1 << slot for slot in self._slots.values())
        for mask in self._holders.values():
            assert mask, "an id nobody holds"
            assert not mask & ~known, "an id held by nobody known"

    def _slot(self, address: str) -> int:
        """The lowest number nobody has: masks stay as short as the fleet is small."""
        slot = self._slots.get(address)
        if slot is None:
            taken = set(self._slots.values())
            slot = next(n for n in range(len(taken) + 1) if n not in taken)
            self._slots[address] = slot
            self._held[address] = set()
        return slot

    def _clear(self, block_id: bytes, bit: int) -> None:
        left = self._holders[block_id] & ~bit
        if left:
            self._holders[block_id] = left
        else:
            del self._holders[block_id]
