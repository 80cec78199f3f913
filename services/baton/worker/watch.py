"""What this worker pushes to those who route to it: a snapshot, then deltas.

A slow reader gets deltas merged; one too slow for that loses its stream and watches anew. Knows
block ids, load and state; knows no reader by name.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from baton.common.errors import Draining, Overloaded
from baton.engine.costmodel import CostModel
from baton.engine.messages import EngineLoad
from baton.handoff.codec import layout_to_wire
from baton.handoff.layout import KvLayout
from baton.rpc.v1 import worker_pb2
from baton.worker.costs import costs_to_wire
from baton.worker.state import WorkerLife, WorkerState
from baton.worker.turns import Turn

PENDING_BLOCKS_MAX = 65_536
"""Changes kept for one reader, 1 MiB of ids: minutes of prefill; past that a snapshot is
cheaper."""

WATCHERS_MAX = 256
"""Router replicas and operators; more are a bug or an attack."""


class Role(Enum):
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class WorkerCard:
    """What does not change while the process lives."""

    role: Role
    model_name: str
    layout: KvLayout
    block_count: int
    context_length_max: int  # tokens


class Watcher:
    """What one reader has not been told yet."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._pending: dict[bytes, bool] = dict.fromkeys(blocks, True)  # True: entered the cache
        self._changed = asyncio.Event()
        self._changed.set()
        self.overflowed = False
        self.ended = False  # after the next event there is none

    async def wait_changed(self) -> None:
        await self._changed.wait()

    def wake(self) -> None:
        self._changed.set()

    def change(self, added: Iterable[bytes], removed: Iterable[bytes]) -> None:
        """Merge: a block that came and went between two events is never mentioned."""
        if self.overflowed:
            return
        for entered, ids in ((True, added), (False, removed)):
            for block_id in ids:
                if self._pending.get(block_id) is (not entered):
                    del self._pending[block_id]
                else:
                    self._pending[block_id] = entered
        if len(self._pending) > PENDING_BLOCKS_MAX:
            self.overflowed = True
            self._pending.clear()
        self._changed.set()

    def take(self) -> tuple[list[bytes], list[bytes]]:
        """Ids that entered and left since the last call."""
        pending, self._pending = self._pending, {}
        self._changed.clear()
        added = [block_id for block_id, entered in pending.items() if entered]
        removed = [block_id for block_id, entered in pending.items() if not entered]
        return added, removed


class WatchHub:
    """Keeps what a snapshot needs and passes changes on to every watcher."""

    def __init__(
        self, card: WorkerCard, life: WorkerLife, costs: CostModel, *, incarnation: int
    ) -> None:
        self._card = card
        self._life = life
        self._costs = costs
        self._incarnation = incarnation
        self._blocks: set[bytes] = set()
        self._load = EngineLoad(0, 0, 0, 0, 0)
        self._watchers: set[Watcher] = set()
        self._ended = False

    def observe(self, turn: Turn) -> None:
        report = turn.report
        self._blocks.difference_update(report.blocks_removed)
        self._blocks.update(report.blocks_added)
        self._load = report.load
        for watcher in self._watchers:
            watcher.change(report.blocks_added, report.blocks_removed)

    def state_changed(self) -> None:
        for watcher in self._watchers:
            watcher.wake()

    def end(self) -> None:
        """The process is about to end: every stream ends after one more event."""
        self._ended = True
        for watcher in self._watchers:
            watcher.ended = True
            watcher.wake()

    def open(self) -> Watcher:
        """A new reader's view, beginning with the snapshot. Raises Overloaded where there are too
        many readers, Draining after `end`."""
        if self._ended:
            raise Draining("this worker is going away")
        if len(self._watchers) >= WATCHERS_MAX:
            raise Overloaded("too many watchers")
        watcher = Watcher(self._blocks)
        self._watchers.add(watcher)
        return watcher

    def close(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    @property
    def watchers(self) -> int:
        return len(self._watchers)

    def event(self, watcher: Watcher, sequence: int) -> worker_pb2.WatchEvent:
        """All that `watcher` has not been told, as event number `sequence` of its stream."""
        added, removed = watcher.take()
        return worker_pb2.WatchEvent(
            incarnation=self._incarnation,
            sequence=sequence,
            state=_STATE_TO_WIRE[self._life.state],
            load=_load_to_wire(self._load),
            blocks_added=added,
            blocks_removed=removed,
            card=_card_to_wire(self._card) if sequence == 0 else None,
            cost_model=costs_to_wire(self._costs.snapshot()),
        )


_STATE_TO_WIRE: Final = {
    WorkerState.FAILED: worker_pb2.WORKER_STATE_DRAINING,  # to a router it is the same: going away
    WorkerState.STARTING: worker_pb2.WORKER_STATE_STARTING,
    WorkerState.READY: worker_pb2.WORKER_STATE_READY,
    WorkerState.DRAINING: worker_pb2.WORKER_STATE_DRAINING,
}
_ROLE_TO_WIRE: Final = {
    Role.PREFILL: worker_pb2.ROLE_PREFILL,
    Role.DECODE: worker_pb2.ROLE_DECODE,
}


def _load_to_wire(load: EngineLoad) -> worker_pb2.Load:
    return worker_pb2.Load(
        running=load.running,
        waiting=load.waiting,
        blocks_used=load.blocks_used,
        prefill_tokens_waiting=load.prefill_tokens_waiting,
        step=load.step,
    )


def _card_to_wire(card: WorkerCard) -> worker_pb2.WorkerCard:
    return worker_pb2.WorkerCard(
        role=_ROLE_TO_WIRE[card.role],
        model_name=card.model_name,
        layout=layout_to_wire(card.layout),
        block_count=card.block_count,
        context_length_max=card.context_length_max,
    )
