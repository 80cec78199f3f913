"""`Worker.Watch` over gRPC: writes a watcher's events at the pace its reader takes them.

Knows streams and pauses; what is in an event is the hub's.
"""

import asyncio
import contextlib

import grpc.aio

from baton.common.errors import Overloaded
from baton.rpc.server import errors_to_status
from baton.rpc.v1 import worker_pb2, worker_pb2_grpc
from baton.worker.watch import Watcher, WatchHub

WatchContext = grpc.aio.ServicerContext[worker_pb2.WatchRequest, worker_pb2.WatchEvent]

HEARTBEAT_S = 1.0
"""An event at least this often: load stays fresh, and a frozen worker shows by its silence."""

EVENT_INTERVAL_S = 0.05
"""An event at most this often per reader: steps are shorter, and no decision needs it finer. On a
small machine worker and router pay for each with the cores that compute."""


class WatchService(worker_pb2_grpc.WorkerServicer):
    def __init__(self, hub: WatchHub, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._hub = hub
        self._heartbeat_s = heartbeat_s

    # grpc.aio also takes a coroutine that writes itself, which the generated stub does not know; it
    # ends at once with its call, where a generator is left to the garbage collector.
    async def Watch(  # type: ignore[override]  # noqa: N802
        self, request: worker_pb2.WatchRequest, context: WatchContext
    ) -> None:
        async with errors_to_status(context):
            watcher = self._hub.open()
            try:
                await self._push(watcher, context)
            finally:
                self._hub.close(watcher)

    async def _push(self, watcher: Watcher, context: WatchContext) -> None:
        """Until the reader goes or has fallen too far behind, or the process ends."""
        sequence = 0
        while True:
            last = watcher.ended
            await context.write(self._hub.event(watcher, sequence))
            if last:
                return
            sequence += 1
            await asyncio.sleep(EVENT_INTERVAL_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat_s):  # `wait_for` would make a task
                    await watcher.wait_changed()
            if watcher.overflowed:
                raise Overloaded("this reader is too slow for deltas: watch anew")
