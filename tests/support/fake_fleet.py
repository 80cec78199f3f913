"""The decode side as the dispatcher sees it, in memory and by script, and a dispatcher over it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from baton.common.errors import BatonError, Unavailable
from baton.common.metrics import Metrics
from baton.engine.params import FinishReason, SamplingParams, TokenSample
from baton.router.decide import Decision
from baton.router.dispatch import Dispatcher
from baton.router.fleet import Heard, Layout, Role, WorkerState, WorkerView
from baton.router.holding import Holding
from baton.router.inbox import Inbox
from baton.router.picture import Picture
from baton.router.tally import Tally, Targets
from baton.router.tenants.gate import OpenGate
from baton.router.work import Submission, Update, Work
from prometheus_client import CollectorRegistry

from support.hand_clock import HandClock

EOS = 9
WORK = Work("w", (1, 2, 3), SamplingParams(max_tokens=4), deadline_s=160.0)

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


class Fleet:
    """A picture of workers that the test changes, and whoever waits for them."""

    def __init__(self, *workers: WorkerView) -> None:
        self.picture: Picture = picture_of(*workers)
        self.metrics = Metrics(CollectorRegistry(), model_name="m")
        self.tally = Tally(self.metrics, HandClock(), Targets())
        self.holding: Holding[Decision] = Holding(self.tally.held)

    def becomes(self, view: WorkerView) -> None:
        self.picture.hear(Heard(view), 0.0)
        self.holding.serve()

    async def until_held(self, count: int) -> None:
        while len(self.holding) != count:  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0)


def dispatcher(links: FakeLinks, fleet: Fleet, *, ready_wait_s: float = 5.0) -> Dispatcher:
    return Dispatcher(
        picture=fleet.picture,
        holding=fleet.holding,
        links=links,
        clock=HandClock(),
        metrics=fleet.metrics,
        tally=fleet.tally,
        gate=OpenGate(),
        eos_token_ids=[EOS],
        ready_wait_s=ready_wait_s,
    )


async def ran(
    links: FakeLinks, fleet: Fleet, work: Work = WORK, *, ready_wait_s: float = 5.0
) -> list[Update]:
    runs = dispatcher(links, fleet, ready_wait_s=ready_wait_s).run(work)
    return [update async for update in runs]
