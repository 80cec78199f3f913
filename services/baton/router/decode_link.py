"""One `Decode.Stream` per decode worker: submits and cancels go down, the steps' frames come up and
are fanned out to their requests.

A gRPC edge: protobuf in, domain values out. When the stream breaks, every request on it learns so
at once. Knows no policy: it neither chooses workers nor tries again.
"""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio

from baton.common.errors import BatonError, Overloaded, Unavailable
from baton.common.logs import get_log
from baton.router.inbox import Inbox
from baton.router.work import Submission, Update
from baton.rpc import convert
from baton.rpc.channels import Channels
from baton.rpc.v1 import decode_pb2, decode_pb2_grpc

CONNECT_LIMIT_S = 3.0
"""A worker that is up answers in milliseconds; beyond this another one is the better choice."""

COMMANDS_WAITING_MAX = 1024
"""Submits that the worker has not yet taken off the stream: a worker that lags this far behind is
overloaded or frozen."""

_log = get_log(__name__)
_Call = grpc.aio.StreamStreamCall[decode_pb2.DecodeCommand, decode_pb2.StepFrame]


class LinkTicket:
    """A submission on a link."""

    def __init__(self, request_id: str, inbox: Inbox, forget: Callable[[str], None]) -> None:
        self.request_id = request_id
        self.lost = False
        self._inbox = inbox
        self._forget = forget

    async def next(self) -> Update:
        return await self._inbox.get()

    def put(self, update: Update) -> None:
        self._inbox.put(update)

    def fail(self, error: BatonError) -> None:
        self._inbox.fail(error)

    def cancel(self) -> None:
        self._forget(self.request_id)


class DecodeLink:
    """The stream to one worker, from its opening until it breaks; then it is thrown away."""

    def __init__(
        self,
        address: str,
        channel: grpc.aio.Channel,
        on_end: Callable[["DecodeLink"], Awaitable[None]],
    ) -> None:
        self.address = address
        self._channel = channel
        self._on_end = on_end
        self._commands: asyncio.Queue[decode_pb2.DecodeCommand] = asyncio.Queue()
        self._tickets: dict[str, LinkTicket] = {}
        self._opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._retiring = False
        self.broken = False
        self._task = asyncio.create_task(self._run(), name=f"decode link {address}")

    async def opened(self) -> None:
        """Raises Unavailable when the worker cannot be reached within CONNECT_LIMIT_S."""
        if not await asyncio.shield(self._opened):
            raise Unavailable("the decode worker cannot be reached")

    def submit(self, submission: Submission) -> LinkTicket:
        if self.broken:
            raise Unavailable("the decode worker cannot be reached")
        if self._commands.qsize() >= COMMANDS_WAITING_MAX:
            raise Overloaded("the decode worker does not keep up")
        inbox = Inbox(tokens_max=submission.params.max_tokens - len(submission.output))
        ticket = LinkTicket(submission.request_id, inbox, self._cancel)
        self._tickets[submission.request_id] = ticket
        self._commands.put_nowait(_submit_command(submission))
        return ticket

    def retire(self) -> None:
        """Close once the requests on it have ended."""
        self._retiring = True
        self._close_if_idle()

    def lose(self) -> None:
        """The worker is frozen: give its requests back now. The stream closes, and tells the worker
        so should it wake."""
        self._break()
        self._task.cancel()

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    def _cancel(self, request_id: str) -> None:
        if self._tickets.pop(request_id, None) is None or self.broken:
            return
        cancel = decode_pb2.Cancel(request_id=request_id)
        self._commands.put_nowait(decode_pb2.DecodeCommand(cancel=cancel))
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._retiring and not self._tickets:
            self._task.cancel()

    async def _run(self) -> None:
        stub = decode_pb2_grpc.DecodeStub(self._channel)
        call = stub.Stream()
        writer: asyncio.Task[None] | None = None
        try:
            await asyncio.wait_for(call.wait_for_connection(), CONNECT_LIMIT_S)
            if not self._opened.done():  # else lost meanwhile
                self._opened.set_result(True)
            writer = asyncio.create_task(self._write(call), name=f"commands to {self.address}")
            await self._read(call)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            code = error.code().name if isinstance(error, grpc.aio.AioRpcError) else "TIMEOUT"
            _log.warning("decode stream broke", worker=self.address, status=code)
        finally:
            self._break()
            call.cancel()
            if writer is not None:
                writer.cancel()
            await self._on_end(self)

    async def _read(self, call: _Call) -> None:
        while True:
            frame = await call.read()
            if not isinstance(frame, decode_pb2.StepFrame):  # end of stream
                return
            for wire in frame.updates:
                ticket = self._tickets.get(wire.request_id)
                if ticket is None:
                    continue  # our cancel and this update crossed
                update = update_from_wire(wire)
                if update.finish is not None:
                    del self._tickets[wire.request_id]
                    self._close_if_idle()
                ticket.put(update)

    async def _write(self, call: _Call) -> None:
        try:
            while True:
                await call.write(await self._commands.get())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reading side hears why, and tells

    def _break(self) -> None:
        self.broken = True
        if not self._opened.done():
            self._opened.set_result(False)
        tickets, self._tickets = self._tickets, {}
        for ticket in tickets.values():
            ticket.lost = True
            ticket.fail(Unavailable("the decode worker went away"))


class DecodeLinks:
    """One link per address, opened when first needed and again after a break."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._links: dict[str, DecodeLink] = {}

    async def submit(self, address: str, submission: Submission) -> LinkTicket:
        link = self._links.get(address)
        if link is None or link.broken:
            channel = self._channels.channel(address)
            link = self._links[address] = DecodeLink(address, channel, self._forget)
        await link.opened()
        return link.submit(submission)

    def retire(self, address: str) -> None:
        """The worker has left the member list: take no new requests there, let the others end."""
        link = self._links.pop(address, None)
        if link is not None:
            link.retire()

    def lose(self, address: str) -> None:
        """The worker there is frozen: its requests learn at once that it is lost."""
        link = self._links.pop(address, None)
        if link is not None:
            link.lose()

    async def aclose(self) -> None:
        for link in list(self._links.values()):
            await link.aclose()

    async def _forget(self, link: DecodeLink) -> None:
        """Drop an ended link's channel, unless a younger link to the same address uses it."""
        if self._links.get(link.address, link) is link:
            self._links.pop(link.address, None)
            await self._channels.drop(link.address)


def _submit_command(submission: Submission) -> decode_pb2.DecodeCommand:
    return decode_pb2.DecodeCommand(
        submit=decode_pb2.Submit(
            request_id=submission.request_id,
            prompt_token_ids=submission.prompt,
            output_token_ids=submission.output,
            sampling=convert.params_to_wire(submission.params),
            deadline_s=submission.remaining_s,
            prefill_candidates=submission.prefill_candidates,
            cache_salt=submission.cache_salt,
            traceparent=submission.traceparent or None,
            priority=submission.priority,
        )
    )


def update_from_wire(wire: decode_pb2.RequestUpdate) -> Update:
    tokens = tuple([convert.sample_from_wire(sample) for sample in wire.tokens])
    finish = convert.finish_from_wire(wire.finish_reason)
    first = wire.HasField("cached_tokens")
    if finish is None and not first:  # nearly all: nothing else is worth the asking
        return Update(tokens)
    has_error = wire.HasField("error")
    return Update(
        tokens,
        finish,
        error=convert.error_from_wire(wire.error) if has_error else None,
        retryable=has_error and wire.error.retryable,
        cached_tokens=wire.cached_tokens if first else None,
        prompt_logprobs=tuple([convert.sample_from_wire(s) for s in wire.prompt_logprobs]),
    )
