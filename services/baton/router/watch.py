"""One worker's `Worker.Watch`: a snapshot, then deltas, read into values.

A gRPC edge: protobuf in, domain values out. A missed message or a new incarnation ends the watch;
whoever runs it starts a fresh one. Keeps no block ids and no loads: it passes them on.
"""

import asyncio
from collections.abc import AsyncGenerator

import grpc
import grpc.aio

from baton.common.errors import Unavailable
from baton.engine.costmodel import Coefficients
from baton.router.fleet import Heard, Layout, Role, WorkerLoad, WorkerState, WorkerView
from baton.rpc.channels import Channels
from baton.rpc.v1 import worker_pb2, worker_pb2_grpc

SNAPSHOT_LIMIT_S = 5.0
"""A worker sends its snapshot at once; one that does not is not there, or frozen."""

_ROLES = {worker_pb2.ROLE_PREFILL: Role.PREFILL, worker_pb2.ROLE_DECODE: Role.DECODE}
_STATES = {
    worker_pb2.WORKER_STATE_READY: WorkerState.READY,
    worker_pb2.WORKER_STATE_DRAINING: WorkerState.DRAINING,
}


class WatchReader:
    """Follows the events of one watch; pure."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._card: worker_pb2.WorkerCard | None = None
        self._incarnation = 0
        self._next_sequence = 0
        self._view: WorkerView | None = None

    def read(self, event: worker_pb2.WatchEvent) -> Heard:
        """What `event` tells. Raises Unavailable on a gap, another incarnation or a snapshot that
        does not say what the worker is."""
        snapshot = self._card is None
        if self._card is None:
            if event.sequence != 0 or event.card.role not in _ROLES:
                raise Unavailable("the watch did not begin with a snapshot")
            self._card, self._incarnation = event.card, event.incarnation
        elif (event.incarnation, event.sequence) != (self._incarnation, self._next_sequence):
            raise Unavailable("the watch missed an event")
        self._next_sequence = event.sequence + 1
        return Heard(
            view=self._seen(self._card, _STATES.get(event.state, WorkerState.STARTING)),
            load=_load(event),
            blocks_added=tuple(event.blocks_added),
            blocks_removed=tuple(event.blocks_removed),
            snapshot=snapshot,
        )

    def _seen(self, card: worker_pb2.WorkerCard, state: WorkerState) -> WorkerView:
        """Events are many, and most tell of load alone."""
        if self._view is None or self._view.state is not state:
            self._view = self._new_view(card, state)
        return self._view

    def _new_view(self, card: worker_pb2.WorkerCard, state: WorkerState) -> WorkerView:
        return WorkerView(
            address=self._address,
            role=_ROLES[card.role],
            incarnation=self._incarnation,
            state=state,
            model_name=card.model_name,
            layout=Layout(
                model_revision=card.layout.model_revision,
                layers=card.layout.layers,
                kv_heads=card.layout.kv_heads,
                head_size=card.layout.head_size,
                block_size=card.layout.block_size,
                dtype=card.layout.dtype,
            ),
            context_length_max=card.context_length_max,
            block_count=card.block_count,
        )


def _load(event: worker_pb2.WatchEvent) -> WorkerLoad:
    load, costs = event.load, event.cost_model
    return WorkerLoad(
        running=load.running,
        waiting=load.waiting,
        blocks_used=load.blocks_used,
        prefill_tokens_waiting=load.prefill_tokens_waiting,
        step=load.step,
        coefficients=Coefficients(
            fixed_s=costs.fixed_s,
            prefill_token_s=costs.prefill_token_s,
            prefill_kv_token_s=costs.prefill_kv_token_s,
            decode_row_s=costs.decode_row_s,
            kv_token_s=costs.kv_token_s,
        ),
        transfer_bytes_per_s=tuple((rate.peer, rate.bytes_per_s) for rate in costs.transfers),
    )


class GrpcWatches:
    """Watches over channels of their own."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    def watch(self, address: str) -> AsyncGenerator[Heard, None]:
        return _watch(address, self._channels.channel(address))

    async def drop(self, address: str) -> None:
        await self._channels.drop(address)


async def _watch(address: str, channel: grpc.aio.Channel) -> AsyncGenerator[Heard, None]:
    """Events of the worker until its stream ends. Raises Unavailable when it breaks."""
    stub = worker_pb2_grpc.WorkerStub(channel)
    call = stub.Watch(worker_pb2.WatchRequest())
    reader = WatchReader(address)
    try:
        async with asyncio.timeout(SNAPSHOT_LIMIT_S):
            event = await call.read()
        while isinstance(event, worker_pb2.WatchEvent):
            yield reader.read(event)
            event = await call.read()
    except TimeoutError:
        raise Unavailable("the worker sends no snapshot") from None
    except grpc.aio.AioRpcError as error:
        raise Unavailable(f"the watch broke: {error.code().name}") from error
    finally:
        call.cancel()
