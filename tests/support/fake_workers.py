"""Worker services in this process, over real gRPC on loopback, with the fake engine behind them.

And the router's end of the wire: `RouterClient` submits and collects updates. Everything that waits
waits for a condition, with a limit.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from baton.common.clock import SystemClock
from baton.common.metrics import Metrics
from baton.common.tracing import NO_TRACING, Tracing
from baton.decode.service import DecodeService
from baton.engine.costmodel import CostModel
from baton.engine.messages import Cancel
from baton.engine.params import FinishReason, SamplingParams
from baton.handoff.layout import KvLayout
from baton.prefill.service import PrefillService
from baton.rpc.channels import Channels
from baton.rpc.convert import params_to_wire
from baton.rpc.identity_files import TlsFiles
from baton.rpc.server import new_server
from baton.rpc.v1 import decode_pb2, decode_pb2_grpc, worker_pb2_grpc
from baton.worker.loop import EngineLoop, QueueLimits
from baton.worker.parts import RoleService, WorkerParts
from baton.worker.spans import RequestSpans
from baton.worker.state import WorkerEvent, WorkerLife
from baton.worker.turns import Turn
from baton.worker.watch import Role, WatchHub, WorkerCard
from baton.worker.watch_service import WatchService
from prometheus_client import CollectorRegistry

from support.fake_engine import LAYOUT, VOCAB_SIZE, FakeEngine
from support.no_grammars import refuse_grammar

NUDGE_ID = "nobody"  # of a cancel that cancels nothing
LIMIT_S = 10.0  # of every wait in these tests: far above what any takes


class FakeWorker:
    """One worker: its engine, the bridge to it, and its services at `address`."""

    def __init__(
        self,
        role: Role,
        engine: FakeEngine,
        *,
        layout: KvLayout = LAYOUT,
        limits: QueueLimits | None = None,
        heartbeat_s: float = 0.05,
        new_service: Callable[[WorkerParts], RoleService] | None = None,
        tracing: Tracing = NO_TRACING,
        model_name: str = "fake",
        vocab_size: int = VOCAB_SIZE,
    ) -> None:
        self.engine = engine
        self.life = WorkerLife()
        card = WorkerCard(role, model_name, layout, engine.block_count, engine.block_count * 4)
        self.costs = CostModel()
        self.hub = WatchHub(card, self.life, self.costs, incarnation=7)
        self.failure: Exception | None = None
        self._turned = asyncio.Event()
        self.loop = EngineLoop(
            lambda: engine,
            limits=limits or QueueLimits(1_000, 1_000_000),
            constrain=refuse_grammar,
            observe=self._observe,
            broken=self._broken,
        )
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry, model_name="fake")
        self.spans = RequestSpans(tracing)
        self.parts = WorkerParts(
            self.loop,
            self.life,
            layout,
            vocab_size,
            SystemClock(),
            metrics,
            self.costs,
            spans=self.spans,
        )
        default = PrefillService if role is Role.PREFILL else DecodeService
        self.service: RoleService = (new_service or default)(self.parts)
        self.server = new_server()
        self.service.register(self.server)
        worker_pb2_grpc.add_WorkerServicer_to_server(
            WatchService(self.hub, heartbeat_s=heartbeat_s), self.server
        )
        self.address = ""

    async def start(self) -> None:
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        await self.server.start()
        await self.loop.start()
        self.life.advance(WorkerEvent.LOADED)
        self.hub.state_changed()

    async def stop(self) -> None:
        await self.service.aclose()
        await self.server.stop(0.5)
        await self.loop.stop()

    async def kill(self) -> None:
        """End every call at once, as a dead process would."""
        await self.server.stop(0)

    def ration(self, steps: int | None) -> None:
        """Let the engine compute `steps` more steps; None: as many as it likes."""
        self.engine.ration(steps)
        self.nudge()

    def nudge(self) -> None:
        """Make the engine take a turn."""
        self.loop.post(Cancel(NUDGE_ID, FinishReason.CANCELLED))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that can only change with a turn of the engine."""
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                self._turned.clear()
                await self._turned.wait()

    async def until_idle(self) -> None:
        """No request is live and no block is held."""
        async with asyncio.timeout(LIMIT_S):
            await self.loop.wait_idle()
        self.nudge()
        await self.until(lambda: self.engine.blocks_used == 0)

    def metric(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(name, {"model_name": "fake", **labels})
        return 0.0 if value is None else value

    def _observe(self, turn: Turn) -> None:
        self.hub.observe(turn)
        self.spans.observe(turn)
        self._turned.set()

    def _broken(self, error: Exception) -> None:
        self.failure = error
        self._turned.set()


@asynccontextmanager
async def running(*workers: FakeWorker) -> AsyncIterator[None]:
    for worker in workers:
        await worker.start()
    try:
        yield
    finally:
        for worker in workers:
            await worker.stop()


def submit_command(
    request_id: str,
    prompt: Sequence[int],
    params: SamplingParams,
    *,
    candidates: Sequence[str] = (),
    output: Sequence[int] = (),
    deadline_s: float = 30.0,
    traceparent: str | None = None,
) -> decode_pb2.DecodeCommand:
    return decode_pb2.DecodeCommand(
        submit=decode_pb2.Submit(
            request_id=request_id,
            prompt_token_ids=prompt,
            output_token_ids=output,
            sampling=params_to_wire(params),
            deadline_s=deadline_s,
            prefill_candidates=candidates,
            traceparent=traceparent,
        )
    )


def cancel_command(request_id: str) -> decode_pb2.DecodeCommand:
    return decode_pb2.DecodeCommand(cancel=decode_pb2.Cancel(request_id=request_id))


class RouterClient:
    """A router's stream to one decode worker. Notes every update, in order."""

    def __init__(self, address: str, *, tls: TlsFiles | None = None) -> None:
        self._channels = Channels(tls)
        stub = decode_pb2_grpc.DecodeStub(self._channels.channel(address))
        self.call = stub.Stream()
        self.updates: dict[str, list[decode_pb2.RequestUpdate]] = defaultdict(list)
        self.frames: list[decode_pb2.StepFrame] = []
        self._came = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "RouterClient":
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._reader is not None
        self.call.cancel()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._channels.aclose()

    async def send(self, command: decode_pb2.DecodeCommand) -> None:
        await self.call.write(command)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                self._came.clear()
                await self._came.wait()

    async def finished(self, request_id: str) -> decode_pb2.RequestUpdate:
        """The terminal update of a request."""
        await self.until(lambda: bool(self.terminals(request_id)))
        return self.terminals(request_id)[0]

    async def output(self, request_id: str) -> list[int]:
        await self.finished(request_id)
        return self.tokens(request_id)

    def tokens(self, request_id: str) -> list[int]:
        return [token.token_id for update in self.updates[request_id] for token in update.tokens]

    def terminals(self, request_id: str) -> list[decode_pb2.RequestUpdate]:
        return [update for update in self.updates[request_id] if update.finish_reason]

    async def _read(self) -> None:
        while isinstance(frame := await self.call.read(), decode_pb2.StepFrame):
            self.frames.append(frame)
            for update in frame.updates:
                self.updates[update.request_id].append(update)
            self._came.set()
