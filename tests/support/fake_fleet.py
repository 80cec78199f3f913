"""Decode workers, links and a fleet as the dispatcher sees them, in memory and by script."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from baton.common.errors import BatonError, Unavailable
from baton.engine.params import FinishReason, TokenSample
from baton.router.decide import Fleet, Layout, Role, WorkerView
from baton.router.inbox import Inbox
from baton.router.work import Submission, Update

LAYOUT = Layout("rev", layers=1, kv_heads=1, head_size=8, block_size=16, dtype="float32")


def decode_worker(address: str, *, incarnation: int = 1, ready: bool = True) -> WorkerView:
    return WorkerView(address, Role.DECODE, incarnation, ready, "m", LAYOUT, 1_000)


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


class FakeFleet:
    """A fleet that changes when the test, or a waiting dispatcher, makes it."""

    def __init__(
        self, *workers: WorkerView, when_waited: Callable[[], Sequence[WorkerView]] | None = None
    ) -> None:
        self.fleet = Fleet(workers)
        self.waited_s: list[float] = []
        self._when_waited = when_waited

    async def wait_change(self, limit_s: float) -> bool:
        self.waited_s.append(limit_s)
        await asyncio.sleep(0)
        if self._when_waited is None:
            return False
        self.fleet = Fleet(tuple(self._when_waited()))
        return True


class HandClock:
    """Moved by hand."""

    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_s(self) -> float:
        return self.now_s
