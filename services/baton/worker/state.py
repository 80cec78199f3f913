"""What a worker says of itself: starting, ready, draining, failed. A table, like every machine.

There is no way back: a worker that was asked to go, or broke, ends. Knows no signals and no work.
"""

from enum import Enum

from baton.common.errors import Draining, IllegalTransition, Unavailable, WorkerFailed


class WorkerState(Enum):
    STARTING = "starting"  # the model is being loaded; no work is taken
    READY = "ready"
    DRAINING = "draining"  # no new work; what runs may finish
    FAILED = "failed"  # the engine broke or stands still; the process is about to end


class WorkerEvent(Enum):
    LOADED = "loaded"
    DRAIN = "drain"
    FAIL = "fail"


WORKER_TRANSITIONS: dict[tuple[WorkerState, WorkerEvent], WorkerState] = {
    (WorkerState.STARTING, WorkerEvent.LOADED): WorkerState.READY,
    (WorkerState.STARTING, WorkerEvent.DRAIN): WorkerState.DRAINING,
    (WorkerState.READY, WorkerEvent.DRAIN): WorkerState.DRAINING,
    (WorkerState.STARTING, WorkerEvent.FAIL): WorkerState.FAILED,
    (WorkerState.READY, WorkerEvent.FAIL): WorkerState.FAILED,
    (WorkerState.DRAINING, WorkerEvent.FAIL): WorkerState.FAILED,
}


class WorkerLife:
    """The state of this process."""

    def __init__(self) -> None:
        self.state = WorkerState.STARTING

    def advance(self, event: WorkerEvent) -> None:
        """Raises IllegalTransition, and changes nothing, where the table has no entry."""
        target = WORKER_TRANSITIONS.get((self.state, event))
        if target is None:
            raise IllegalTransition("worker", self.state.value, event.value)
        self.state = target

    def require_ready(self) -> None:
        """Raises Unavailable, Draining or WorkerFailed, all retryable elsewhere."""
        if self.state is WorkerState.STARTING:
            raise Unavailable("this worker is still loading its model")
        if self.state is WorkerState.DRAINING:
            raise Draining("this worker takes no new work")
        if self.state is WorkerState.FAILED:
            raise WorkerFailed("this worker has failed")
