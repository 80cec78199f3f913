"""What a worker says of itself: starting, ready, draining. A table, like every machine here.

Draining is final: a worker that was asked to go never comes back. Knows no signals and no work.
"""

from enum import Enum

from baton.common.errors import Draining, IllegalTransition, Unavailable


class WorkerState(Enum):
    STARTING = "starting"  # the model is being loaded; no work is taken
    READY = "ready"
    DRAINING = "draining"  # no new work; what runs may finish


class WorkerEvent(Enum):
    LOADED = "loaded"
    DRAIN = "drain"


WORKER_TRANSITIONS: dict[tuple[WorkerState, WorkerEvent], WorkerState] = {
    (WorkerState.STARTING, WorkerEvent.LOADED): WorkerState.READY,
    (WorkerState.STARTING, WorkerEvent.DRAIN): WorkerState.DRAINING,
    (WorkerState.READY, WorkerEvent.DRAIN): WorkerState.DRAINING,
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
        """Raises Unavailable or Draining, both retryable elsewhere."""
        if self.state is WorkerState.STARTING:
            raise Unavailable("this worker is still loading its model")
        if self.state is WorkerState.DRAINING:
            raise Draining("this worker takes no new work")
