"""The bridge between asyncio and the engine's thread.

Requests go down through a bounded queue, each turn of the engine comes up in one
`call_soon_threadsafe` and is sorted to its subscribers. The event loop never waits for the engine.
Knows who listens to which request; knows neither gRPC nor tensors.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from baton.common.errors import (
    BatonError,
    InvalidRequest,
    Overloaded,
    Unavailable,
    WorkerFailed,
)
from baton.common.logs import get_log
from baton.engine.batch import KvStore
from baton.engine.constraint import Constraint
from baton.engine.messages import Cancel, Command, Event, Release, Submit, Tokens
from baton.engine.params import FinishReason
from baton.worker.doorway import Doorway
from baton.worker.progress import StepProgress
from baton.worker.turns import Broken, EngineApi, EngineThread, Handover, Loaded, Refused, Turn

STOP_LIMIT_S = 5.0
"""A step in progress ends within this; a stuck one dies with the process."""

Notice = Event | Refused


class Subscriber(Protocol):
    def deliver(self, notices: Sequence[Notice]) -> None:
        """All that one turn brought this subscriber's requests, in order. Must not block."""
        ...


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What may wait for its first event from the engine; more is refused with Overloaded."""

    requests_max: int
    tokens_max: int


@dataclass(slots=True)
class _Live:
    subscriber: Subscriber
    queued_tokens: int  # 0 once the engine has begun with it


class EngineLoop:
    """Lives on one event loop. `constrain` reads a grammar, and may block; `observe` sees every
    turn, `broken` the engine's end."""

    def __init__(
        self,
        build: Callable[[], EngineApi],
        *,
        limits: QueueLimits,
        constrain: Callable[[str], Constraint],
        observe: Callable[[Turn], None],
        broken: Callable[[Exception], None],
        progress: StepProgress | None = None,
    ) -> None:
        self._limits = limits
        self._observe = observe
        self._broken = broken
        self._live: dict[str, _Live] = {}
        self._queued_requests = 0
        self._queued_tokens = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[KvStore] = self._loop.create_future()
        self._error: Exception | None = None
        self._thread = EngineThread(build, self._hand_over, progress or StepProgress())
        self._doorway = Doorway(constrain, self._thread.post, self._refuse)
        self._log = get_log(__name__)

    async def start(self) -> None:
        """Build the engine on its thread. Raises whatever building it raised."""
        self._thread.start()
        await self._loaded

    async def stop(self) -> bool:
        """False: a step runs on, and with it the thread."""
        self._thread.stop()
        return await asyncio.to_thread(self._thread.join, STOP_LIMIT_S)

    @property
    def kv(self) -> KvStore:
        """The engine's blocks. Raises Unavailable before `start` has returned."""
        if not self._loaded.done():
            raise Unavailable("this worker is still loading its model")
        return self._loaded.result()

    @property
    def live(self) -> int:
        """Requests that have not ended."""
        return len(self._live)

    async def wait_idle(self) -> None:
        """Returns once no request is live."""
        await self._idle.wait()

    def submit(self, command: Submit, subscriber: Subscriber) -> None:
        """Queue a request; what becomes of it is told to `subscriber`.

        Raises Overloaded above the queue's bounds, Unavailable when there is no engine any more.
        """
        tokens = len(command.prompt) + len(command.output)
        if self._error is not None:
            raise WorkerFailed("the engine of this worker has failed")
        if command.request_id in self._live:
            raise InvalidRequest(f"request id {command.request_id!r} is in use")
        self._admit(tokens)
        self._live[command.request_id] = _Live(subscriber, tokens)
        self._idle.clear()
        self._doorway.send(command)

    def post(self, command: Command) -> None:
        """Tell the engine about a live request. Ids it does not know are its to ignore."""
        if isinstance(command, Release):  # the one command after which no event comes
            self._forget(command.request_id)
        self._doorway.send(command)

    def give_up(self, error: BatonError) -> None:
        """End every live request with `error`, whether or not the engine still listens."""
        ended = list(self._live)
        self._sort([Refused(request_id, error) for request_id in ended])
        for request_id in ended:
            self._doorway.send(Cancel(request_id, FinishReason.CANCELLED))

    def fail(self, error: Exception) -> None:
        """The engine is of no further use: requests move, and `broken` hears why, once."""
        if self._error is not None:
            return
        self._error = error
        if not self._loaded.done():
            self._loaded.set_exception(error)
            return
        # Retryable: the fault may be one request's, the others run on another worker as well.
        self.give_up(WorkerFailed("the engine of this worker has failed"))
        self._broken(error)

    def _admit(self, tokens: int) -> None:
        limits = self._limits
        if self._queued_requests >= limits.requests_max:
            raise Overloaded(f"{self._queued_requests} requests are waiting, the limit")
        if self._queued_requests and self._queued_tokens + tokens > limits.tokens_max:
            raise Overloaded(
                f"{self._queued_tokens} tokens are waiting; {tokens} more exceed"
                f" {limits.tokens_max}"
            )
        self._queued_requests += 1
        self._queued_tokens += tokens

    def _leave_queue(self, live: _Live) -> None:
        if live.queued_tokens:
            self._queued_requests -= 1
            self._queued_tokens -= live.queued_tokens
            live.queued_tokens = 0

    def _forget(self, request_id: str) -> None:
        live = self._live.pop(request_id, None)
        if live is not None:
            self._leave_queue(live)
        if not self._live:
            self._idle.set()

    def _refuse(self, request_id: str, error: BatonError) -> None:
        self._sort([Refused(request_id, error)])

    def _hand_over(self, handover: Handover) -> bool:
        """Called on the engine's thread."""
        try:
            self._loop.call_soon_threadsafe(self._receive, handover)
        except RuntimeError:  # the event loop is closed: the process is ending
            return False
        return True

    def _receive(self, handover: Handover) -> None:
        match handover:
            case Loaded(kv):
                if not self._loaded.done():
                    self._loaded.set_result(kv)
            case Turn():
                self._thread.delivered()
                self._observe(handover)
                self._sort([*handover.refused, *handover.report.events])
            case Broken(error):
                self.fail(error)

    def _sort(self, notices: Sequence[Notice]) -> None:
        """Group by subscriber, keeping the order within each."""
        shares: dict[Subscriber, list[Notice]] = {}
        for notice in notices:
            live = self._live.get(notice.request_id)
            if live is None:  # ended by its owner a moment ago
                continue
            self._leave_queue(live)
            shares.setdefault(live.subscriber, []).append(notice)
            ended = isinstance(notice, Refused) or (
                isinstance(notice, Tokens) and notice.finish is not None
            )
            if ended:
                self._forget(notice.request_id)
        for subscriber, share in shares.items():
            try:
                subscriber.deliver(share)
            except Exception as error:  # one subscriber's bug must not silence the others
                self._log.error("a subscriber failed", error=error)
