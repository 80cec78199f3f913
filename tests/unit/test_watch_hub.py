"""What a watcher is told: everything once, merged when it is slow, never without bound."""

import pytest
from baton.common.errors import Draining, Overloaded
from baton.engine.costmodel import CostModel
from baton.engine.messages import EngineLoad, StepReport
from baton.engine.stepshape import decode_shape
from baton.rpc.v1 import worker_pb2
from baton.worker.state import WorkerEvent, WorkerLife
from baton.worker.turns import Turn
from baton.worker.watch import (
    PENDING_BLOCKS_MAX,
    WATCHERS_MAX,
    Role,
    Watcher,
    WatchHub,
    WorkerCard,
)
from hypothesis import given
from hypothesis import strategies as st
from support.fake_engine import LAYOUT

A, B, C = (bytes([n]) * 16 for n in range(3))


def new_hub(life: WorkerLife | None = None, costs: CostModel | None = None) -> WatchHub:
    card = WorkerCard(Role.DECODE, "m", LAYOUT, block_count=64, context_length_max=256)
    return WatchHub(card, life or WorkerLife(), costs or CostModel(), incarnation=42)


def turn(added: tuple[bytes, ...] = (), removed: tuple[bytes, ...] = (), step: int = 1) -> Turn:
    load = EngineLoad(running=2, waiting=1, blocks_used=5, prefill_tokens_waiting=9, step=step)
    return Turn(StepReport((), added, removed, load), (), 0.01)


def opened(hub: WatchHub) -> Watcher:
    watcher = hub.open()
    assert watcher is not None
    return watcher


def test_the_snapshot_holds_everything_and_the_card() -> None:
    hub = new_hub()
    hub.observe(turn(added=(A, B)))
    hub.observe(turn(removed=(A,), step=2))
    event = hub.event(opened(hub), 0)
    assert (event.incarnation, event.sequence) == (42, 0)
    assert list(event.blocks_added) == [B]
    assert list(event.blocks_removed) == []
    assert event.state == worker_pb2.WORKER_STATE_STARTING
    assert (event.load.running, event.load.waiting, event.load.step) == (2, 1, 2)
    assert event.card.role == worker_pb2.ROLE_DECODE
    assert (event.card.block_count, event.card.context_length_max) == (64, 256)
    assert event.card.layout.block_size == LAYOUT.block_size


def test_deltas_say_what_changed_and_carry_no_card() -> None:
    hub = new_hub()
    hub.observe(turn(added=(A,)))
    watcher = opened(hub)
    hub.event(watcher, 0)
    hub.observe(turn(added=(B,), removed=(A,)))
    event = hub.event(watcher, 1)
    assert (list(event.blocks_added), list(event.blocks_removed)) == ([B], [A])
    assert not event.HasField("card")


def test_what_comes_and_goes_between_two_events_is_not_mentioned() -> None:
    hub = new_hub()
    hub.observe(turn(added=(A,)))
    watcher = opened(hub)
    hub.event(watcher, 0)
    hub.observe(turn(added=(C,), removed=(A,)))
    hub.observe(turn(added=(A,), removed=(C,)))
    event = hub.event(watcher, 1)
    assert (list(event.blocks_added), list(event.blocks_removed)) == ([], [])


def test_a_watcher_that_falls_behind_is_cut_off_and_holds_nothing() -> None:
    hub = new_hub()
    watcher = opened(hub)
    hub.event(watcher, 0)
    ids = tuple(number.to_bytes(16, "big") for number in range(PENDING_BLOCKS_MAX + 1))
    hub.observe(turn(added=ids))
    assert watcher.overflowed
    assert watcher.take() == ([], [])
    hub.observe(turn(added=(A,)))
    assert watcher.take() == ([], [])


def test_every_snapshot_can_be_taken_however_large_the_cache_is() -> None:
    hub = new_hub()
    ids = tuple(number.to_bytes(16, "big") for number in range(PENDING_BLOCKS_MAX + 1))
    hub.observe(turn(added=ids))
    watcher = opened(hub)
    assert len(hub.event(watcher, 0).blocks_added) == len(ids)
    hub.observe(turn(added=(A,)))
    assert not watcher.overflowed


def test_state_is_told_as_it_is() -> None:
    life = WorkerLife()
    hub = new_hub(life)
    watcher = opened(hub)
    hub.event(watcher, 0)
    life.advance(WorkerEvent.LOADED)
    assert hub.event(watcher, 1).state == worker_pb2.WORKER_STATE_READY
    life.advance(WorkerEvent.DRAIN)
    assert hub.event(watcher, 2).state == worker_pb2.WORKER_STATE_DRAINING
    life.advance(WorkerEvent.FAIL)
    assert hub.event(watcher, 3).state == worker_pb2.WORKER_STATE_DRAINING


def test_there_is_a_limit_to_watchers() -> None:
    hub = new_hub()
    watchers = [opened(hub) for _ in range(WATCHERS_MAX)]
    with pytest.raises(Overloaded):
        hub.open()
    hub.close(watchers[0])
    hub.open()


def test_the_end_wakes_every_reader_and_lets_no_new_one_in() -> None:
    hub = new_hub()
    reader, other = opened(hub), opened(hub)
    hub.end()
    assert reader.ended
    assert other.ended
    with pytest.raises(Draining):
        hub.open()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.booleans()), max_size=40))
def test_a_reader_of_deltas_knows_what_a_new_snapshot_would_say(
    story: list[tuple[bool, int, bool]],
) -> None:
    hub = new_hub()
    watcher = opened(hub)
    known: set[bytes] = set()
    truth: set[bytes] = set()

    def read() -> None:
        event = hub.event(watcher, 1)
        assert not known & set(event.blocks_added)
        assert set(event.blocks_removed) <= known
        known.difference_update(event.blocks_removed)
        known.update(event.blocks_added)

    for enters, number, reads in story:
        block = bytes([number]) * 16
        if enters and block not in truth:
            hub.observe(turn(added=(block,)))
            truth.add(block)
        elif not enters and block in truth:
            hub.observe(turn(removed=(block,)))
            truth.remove(block)
        if reads:
            read()
    read()
    assert known == truth


def test_what_steps_cost_is_told_in_every_event() -> None:
    costs = CostModel()
    hub = new_hub(costs=costs)
    watcher = opened(hub)
    first = hub.event(watcher, 0).cost_model
    assert (first.steps, first.HasField("error_ratio")) == (0, False)
    for rows in (1, 2, 3, 4):
        costs.learn(decode_shape(rows, 100 * rows), 0.01 + 0.002 * rows)
    costs.learn_transfer("prefill:1", 5_000, 0.5)
    told = hub.event(watcher, 1).cost_model
    assert told.steps == 4
    assert told.HasField("error_ratio")
    assert told.fixed_s == costs.coefficients.fixed_s > 0
    assert [(one.peer, one.bytes_per_s) for one in told.transfers] == [("prefill:1", 10_000)]
