"""Decode workers and links as the dispatcher sees them, in memory and by script."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from baton.common.errors import BatonError, Unavailable
from baton.engine.params import FinishReason, TokenSample
from baton.router.fleet import Heard, Layout, Role, WorkerState, WorkerView
from baton.router.inbox import Inbox
from baton.router.picture import Picture
from baton.router.work import Submission, Update

LAYOUT = Layout("rev", layers=1, kv_heads=1, head_size=8, block_size=16, dtype="float32")


def decode_worker(
    address: str, *, incarnation: int = 1, state: WorkerState = WorkerState.READY
) -> WorkerView:
    return WorkerView(address, Role.DECODE, incarnation, state, "m", LAYOUT, 1_000)


def tokens(*ids: int, finish: FinishReason | None = None) -> Update:
    return Update(tokens=tuple(TokenSample(i) for i in ids), finish=finish)


def refused(error: BatonError) -> Update:
    return Update(finish=FinishReason.ERROR, error=error, retryable=error.retryable)


class LOST:
    """In a script: the worker goes away."""


@dataclass
class FakeTicket:
    submission: Submission
    script: Sequence[Update | type[LOST]]
    lost: bool = False
    cancelled: bool = False
    inbox: Inbox = field(default_factory=lambda: Inbox(tokens_max=1_000))

    def __post_init__(self) -> None:
        for step in self.script:
            if isinstance(step, Update):
                self.inbox.put(step)
            else:
                self.lost = True
                self.inbox.fail(Unavailable("the decode worker went away"))

    async def next(self) -> Update:
        return await self.inbox.get()

    def fail(self, error: BatonError) -> None:
        self.inbox.fail(error)

    def cancel(self) -> None:
        self.cancelled = True


class FakeLinks:
    """Answers the n-th submission with the n-th script."""

    def __init__(self, *scripts: Sequence[Update | type[LOST]] | BatonError) -> None:
        self._scripts = list(scripts)
        self.tickets: list[FakeTicket] = []
        self.addresses: list[str] = []

    async def submit(self, address: str, submission: Submission) -> FakeTicket:
        self.addresses.append(address)
        script = self._scripts.pop(0)
        if isinstance(script, BatonError):
            raise script
        ticket = FakeTicket(submission, script)
        self.tickets.append(ticket)
        return ticket


def picture_of(*workers: WorkerView, now_s: float = 0.0) -> Picture:
    """A picture of these workers, all idle."""
    picture = Picture()
    for view in workers:
        picture.hear(Heard(view), now_s)
    return picture
