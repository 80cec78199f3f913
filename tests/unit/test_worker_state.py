"""A worker starts, is ready, drains or fails, and refuses work outside READY with an error worth a
retry."""

import pytest
from baton.common.errors import Draining, IllegalTransition, Unavailable, WorkerFailed
from baton.worker.state import WORKER_TRANSITIONS, WorkerEvent, WorkerLife, WorkerState


def life_in(state: WorkerState) -> WorkerLife:
    life = WorkerLife()
    if state is WorkerState.READY:
        life.advance(WorkerEvent.LOADED)
    elif state is WorkerState.DRAINING:
        life.advance(WorkerEvent.DRAIN)
    elif state is WorkerState.FAILED:
        life.advance(WorkerEvent.FAIL)
    assert life.state is state
    return life


@pytest.mark.parametrize("event", WorkerEvent)
@pytest.mark.parametrize("state", WorkerState)
def test_every_event_in_every_state(state: WorkerState, event: WorkerEvent) -> None:
    life = life_in(state)
    target = WORKER_TRANSITIONS.get((state, event))
    if target is None:
        with pytest.raises(IllegalTransition):
            life.advance(event)
        assert life.state is state
    else:
        life.advance(event)
        assert life.state is target


def test_there_is_no_way_back_to_work() -> None:
    going = {WorkerState.DRAINING, WorkerState.FAILED}
    for (state, _), target in WORKER_TRANSITIONS.items():
        assert state not in going or target is WorkerState.FAILED


def test_only_a_ready_worker_takes_work() -> None:
    life_in(WorkerState.READY).require_ready()
    with pytest.raises(Draining):
        life_in(WorkerState.DRAINING).require_ready()
    with pytest.raises(WorkerFailed):
        life_in(WorkerState.FAILED).require_ready()
    with pytest.raises(Unavailable, match="loading") as starting:
        life_in(WorkerState.STARTING).require_ready()
    assert starting.value.retryable
