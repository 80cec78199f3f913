"""`Decode.Stream` over gRPC: moves one router's commands and frames until either side ends it.

Knows streams as a whole; what happens to a request is `stream`'s.
"""

import asyncio
import itertools
from collections.abc import AsyncIterable

import grpc.aio

from baton.common.errors import Draining
from baton.common.registry import DECODE_TABLE
from baton.decode.stream import RouterStream
from baton.rpc.channels import Channels
from baton.rpc.server import errors_to_status
from baton.rpc.v1 import decode_pb2, decode_pb2_grpc
from baton.worker.parts import WorkerParts

StreamContext = grpc.aio.ServicerContext[decode_pb2.DecodeCommand, decode_pb2.StepFrame]


OUTBOX_FRAMES_MAX = 1_024
"""Frames a router may leave unread besides gRPC's own windows: ten seconds of 10 ms steps. A router
that far behind is frozen; it will resubmit what it still wants."""


class DecodeService(decode_pb2_grpc.DecodeServicer):
    def __init__(self, parts: WorkerParts, *, outbox_frames_max: int = OUTBOX_FRAMES_MAX) -> None:
        self._parts = parts
        parts.metrics.declare(spec.name for spec in DECODE_TABLE)
        self._outbox_frames_max = outbox_frames_max
        self._channels = Channels(parts.tls)
        self._streams: set[RouterStream] = set()
        self._stream_numbers = itertools.count()

    def register(self, server: grpc.aio.Server) -> None:
        decode_pb2_grpc.add_DecodeServicer_to_server(self, server)

    async def aclose(self) -> None:
        """End every stream; one that still has work breaks, and its router resubmits elsewhere."""
        for stream in list(self._streams):
            if stream.running:
                stream.fail(Draining("this worker is going away"))
            else:
                stream.finish()
        await self._channels.aclose()

    # A coroutine that writes itself (the generated stub knows iterators only): it is cancelled the
    # moment the router goes, where a generator is left to the garbage collector.
    async def Stream(  # type: ignore[override]  # noqa: N802
        self,
        request_iterator: AsyncIterable[decode_pb2.DecodeCommand],
        context: StreamContext,
    ) -> None:
        # Now, not with the first frame: a stream may have to be aborted while a write is under way,
        # and gRPC would then send it twice.
        await context.send_initial_metadata(())
        async with errors_to_status(context):
            stream = RouterStream(
                self._parts,
                self._channels,
                number=next(self._stream_numbers),
                outbox_frames_max=self._outbox_frames_max,
            )
            self._streams.add(stream)
            reader = asyncio.create_task(stream.read(request_iterator))
            ends = [
                asyncio.create_task(stream.write(context.write)),
                asyncio.create_task(stream.wait_failed()),
            ]
            try:
                done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for end in done:
                    end.result()
            finally:
                self._streams.discard(stream)
                stream.abandon()
                for task in (reader, *ends):
                    task.cancel()
                await asyncio.gather(reader, *ends, return_exceptions=True)
