"""One router's stream: its requests from submit to their one terminal update.

Engine events of a turn become one frame; KV transfers, deadlines and cancels belong to the request
they serve and end with it. Knows the engine's bridge and the hand-off; the servicer moves its
frames.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from dataclasses import dataclass

from baton.common.errors import BatonError, InvalidRequest, Overloaded
from baton.common.logs import get_log
from baton.common.tracing import Attributes
from baton.decode.path import PrefillPath, path_before_reserving, path_once_reserved
from baton.decode.updates import error_update, finish_update, tokens_update
from baton.engine.messages import Cancel, KvArrived, KvComplete, KvLost, Reserved, Submit, Tokens
from baton.engine.params import FinishReason
from baton.handoff.codec import PrefillOrder
from baton.handoff.receiver import Delivered, Lost, Receiver, Transfer
from baton.rpc.channels import Channels
from baton.rpc.convert import params_from_wire
from baton.rpc.v1 import decode_pb2
from baton.worker.intake import require_computable
from baton.worker.loop import Notice
from baton.worker.parts import WorkerParts
from baton.worker.spans import RequestSpan
from baton.worker.turns import Refused

Write = Callable[[decode_pb2.StepFrame], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Running:
    """A request between submit and its terminal update."""

    engine_id: str
    order: PrefillOrder
    candidates: tuple[str, ...]
    deadline_s: float  # on the clock's monotonic scale
    path: PrefillPath | None  # None until it is known where the prompt is computed
    timer: asyncio.TimerHandle
    told: RequestSpan
    transfer: asyncio.Task[None] | None = None
    answered: bool = False  # its first update has left

    def release(self) -> None:
        """Stop what acts for the request. Once called, nothing writes into its blocks."""
        self.timer.cancel()
        if self.transfer is not None:
            self.transfer.cancel()


class RouterStream:
    """Implements Subscriber. `number` tells streams apart: routers choose ids on their own."""

    def __init__(
        self, parts: WorkerParts, channels: Channels, *, number: int, outbox_frames_max: int
    ) -> None:
        self._parts = parts
        self._channels = channels
        self._number = number
        self._outbox_frames_max = outbox_frames_max
        self._submit_numbers = itertools.count()
        self._running: dict[str, Running] = {}  # by the router's request id
        self._request_ids: dict[str, str] = {}  # engine id -> request id
        self._outbox: deque[decode_pb2.StepFrame] = deque()
        self._filled = asyncio.Event()
        self._ending = False  # no more submits: end when all is said
        self._failure: BatonError | None = None
        self._failed = asyncio.Event()
        self._log = get_log(__name__)

    # What the servicer calls.

    async def read(self, commands: AsyncIterable[decode_pb2.DecodeCommand]) -> None:
        """Take commands until the router has no more."""
        try:
            async for command in commands:
                self.handle(command)
        except InvalidRequest as error:  # not a command: what comes after it means nothing either
            self.fail(error)
        finally:
            self.finish()

    async def write(self, write: Write) -> None:
        """Write frames in order; returns when the stream is finished and all is written."""
        while True:
            while self._outbox:
                await write(self._outbox.popleft())
            if self._ending and not self._running:
                return
            self._filled.clear()
            await self._filled.wait()

    async def wait_failed(self) -> None:
        """Returns never, or raises what the stream must be aborted with."""
        await self._failed.wait()
        assert self._failure is not None
        raise self._failure

    def finish(self) -> None:
        """No more commands: end once the requests under way have."""
        self._ending = True
        self._filled.set()

    def fail(self, error: BatonError) -> None:
        """Abort the stream; the router resubmits elsewhere."""
        self._failure = error
        self._failed.set()

    @property
    def running(self) -> int:
        return len(self._running)

    def abandon(self) -> None:
        """The stream is gone: cancel all it carried."""
        for running in list(self._running.values()):
            self._cancel(running, FinishReason.CANCELLED)
            self._forget(running, FinishReason.CANCELLED)

    def handle(self, command: decode_pb2.DecodeCommand) -> None:
        """One command. What is wrong with it ends its request, never the stream."""
        if command.HasField("submit"):
            self._submit(command.submit)
        elif command.HasField("cancel"):
            running = self._running.get(command.cancel.request_id)
            if running is not None:  # else it has just ended: the two may cross
                self._cancel(running, FinishReason.CANCELLED)

    # What the engine brings.

    def deliver(self, notices: Sequence[Notice]) -> None:
        updates = []
        for notice in notices:
            request_id = self._request_ids.get(notice.request_id)
            if request_id is None:
                continue
            running = self._running[request_id]
            match notice:
                case Reserved():
                    self._fetch(running, notice)
                case Tokens():
                    updates.append(self._update(request_id, running, notice))
                case Refused(_, error):
                    self._forget(running, FinishReason.ERROR, error)
                    updates.append(error_update(request_id, error))
        self._send(updates)

    # A request's life.

    def _submit(self, wire: decode_pb2.Submit) -> None:
        twin = self._running.get(wire.request_id)
        told = self._parts.spans.begin("decode", wire.traceparent, _attributes(wire))
        try:
            if twin is not None:  # one id, one terminal update: it ends both
                self._cancel(twin, FinishReason.CANCELLED)
                self._forget(twin, FinishReason.CANCELLED)
                raise InvalidRequest(f"request id {wire.request_id!r} is in use on this stream")
            self._parts.life.require_ready()
            if wire.deadline_s <= 0:
                told.end(FinishReason.DEADLINE)
                self._send([finish_update(wire.request_id, FinishReason.DEADLINE)])
                return
            self._start(wire, told)
        except BatonError as error:
            told.end(error=error)
            self._send([error_update(wire.request_id, error)])

    def _start(self, wire: decode_pb2.Submit, told: RequestSpan) -> None:
        order = PrefillOrder(
            request_id=wire.request_id,
            prompt=tuple(wire.prompt_token_ids),
            output=tuple(wire.output_token_ids),
            params=params_from_wire(wire.sampling),
            cache_salt=wire.cache_salt,
            priority=wire.priority,
        )
        require_computable(order, vocab_size=self._parts.vocab_size)
        candidates = tuple(wire.prefill_candidates)
        path = path_before_reserving(
            candidates,
            prompt_logprobs=order.params.prompt_logprobs is not None,
            tokens=order.tokens,
            block_size=self._parts.layout.block_size,
        )
        engine_id = f"{self._number}.{next(self._submit_numbers)}/{wire.request_id}"
        command = Submit(
            engine_id,
            order.prompt,
            order.params,
            output=order.output,
            cache_salt=order.cache_salt,
            remote=path is None,
            priority=order.priority,
        )
        self._parts.engine.submit(command, self)
        deadline_s = self._parts.clock.monotonic_s() + wire.deadline_s
        timer = asyncio.get_running_loop().call_later(wire.deadline_s, self._expire, engine_id)
        told.follow(engine_id, computes=path is not None)
        running = Running(engine_id, order, candidates, deadline_s, path, timer, told)
        self._running[wire.request_id] = running
        self._request_ids[engine_id] = wire.request_id

    def _fetch(self, running: Running, reserved: Reserved) -> None:
        """Blocks are reserved: fetch their KV, unless the cache here has nearly all of it."""
        running.path = path_once_reserved(
            tokens=running.order.tokens,
            held_blocks=reserved.held_blocks,
            block_size=self._parts.layout.block_size,
        )
        if running.path is None:
            running.transfer = asyncio.create_task(self._transfer(running, reserved))
        else:
            running.told.computing()
            self._parts.engine.post(KvLost(running.engine_id))

    async def _transfer(self, running: Running, reserved: Reserved) -> None:
        engine, engine_id = self._parts.engine, running.engine_id
        transfer = Transfer(
            running.order,
            running.candidates,
            reserved.block_table,
            reserved.held_blocks,
            running.deadline_s,
            running.told.span,
        )
        receiver = Receiver(
            layout=self._parts.layout,
            kv=engine.kv,
            channels=self._channels,
            clock=self._parts.clock,
            metrics=self._parts.metrics,
            costs=self._parts.costs,
        )
        result: Delivered | Lost
        try:
            result = await receiver.receive(
                transfer, lambda blocks: engine.post(KvArrived(engine_id, blocks))
            )
        except Exception as error:  # our bug: the request must not wait for its deadline
            fields = running.told.span.log_fields
            request_id = running.order.request_id
            self._log.error("a transfer failed", error=error, request_id=request_id, **fields)
            result = Lost(attempts=0)
        if isinstance(result, Delivered):
            running.path = PrefillPath.REMOTE
            token = result.first_token
            engine.post(KvComplete(engine_id, token.sample, token.cached_tokens))
        else:
            running.path = PrefillPath.PREFILL_FAILED
            running.told.computing()
            engine.post(KvLost(engine_id))

    def _expire(self, engine_id: str) -> None:
        request_id = self._request_ids.get(engine_id)
        if request_id is not None:
            self._cancel(self._running[request_id], FinishReason.DEADLINE)

    def _cancel(self, running: Running, reason: FinishReason) -> None:
        """Stop the request; the engine's last event for it becomes the terminal update."""
        running.release()
        self._parts.engine.post(Cancel(running.engine_id, reason))

    def _forget(
        self, running: Running, finish: FinishReason, error: BatonError | None = None
    ) -> None:
        running.release()
        running.told.end(finish, error)
        del self._request_ids[running.engine_id]
        del self._running[running.order.request_id]
        self._filled.set()

    def _update(self, request_id: str, running: Running, event: Tokens) -> decode_pb2.RequestUpdate:
        path = "" if running.answered or running.path is None else running.path.value
        if path:
            self._parts.metrics.count("baton_decode_prefill_total", path=path)
            running.told.span.note({"baton.prefill.path": path})
        running.answered = True
        if event.finish is not None:
            self._forget(running, event.finish)
        return tokens_update(request_id, event, path=path)

    def _send(self, updates: Sequence[decode_pb2.RequestUpdate]) -> None:
        if not updates:
            return
        if len(self._outbox) >= self._outbox_frames_max:
            self.fail(Overloaded("the router does not read this stream"))
            return
        self._outbox.append(decode_pb2.StepFrame(updates=updates))
        self._filled.set()


def _attributes(wire: decode_pb2.Submit) -> Attributes:
    return {
        "baton.request_id": wire.request_id,
        "baton.output_tokens_before": len(wire.output_token_ids),
        "gen_ai.request.max_tokens": wire.sampling.max_tokens,
        "gen_ai.usage.input_tokens": len(wire.prompt_token_ids),
    }
