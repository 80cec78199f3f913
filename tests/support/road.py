"""The workers' half of the road in one process: real engines, real gRPC on loopback, no router.

A `Road` starts prefill and decode workers around one model and asks decode as a router would: one
stream per decode worker, updates gathered into answers.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import grpc.aio
from baton.common.clock import SystemClock
from baton.common.metrics import Metrics
from baton.decode.service import DecodeService
from baton.engine.costmodel import CostModel
from baton.engine.messages import EngineLoad
from baton.engine.params import FinishReason, SamplingParams, TokenSample
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import Quantization
from baton.engine.speculation import Speculation
from baton.model.fetch import LocalModel
from baton.prefill.service import PrefillService
from baton.rpc.channels import CHANNEL_OPTIONS
from baton.rpc.convert import finish_from_wire, params_to_wire, sample_from_wire
from baton.rpc.server import new_server
from baton.rpc.v1 import decode_pb2, decode_pb2_grpc
from baton.worker.app import RoleService
from baton.worker.assembly import build_engine, plan_model
from baton.worker.constraints import Constraints
from baton.worker.loop import EngineLoop, QueueLimits
from baton.worker.parts import WorkerParts
from baton.worker.progress import StepProgress
from baton.worker.settings import WorkerSettings
from baton.worker.state import WorkerEvent, WorkerLife
from baton.worker.turns import Turn
from prometheus_client import CollectorRegistry

from support.smollm2 import CACHE_DIR

ANSWER_LIMIT_S = 120.0


@dataclass
class Answer:
    """Everything decode said about one request."""

    samples: list[TokenSample] = field(default_factory=list)
    prompt_logprobs: list[TokenSample] = field(default_factory=list)
    finish: FinishReason | None = None
    error: str = ""
    code: str = ""
    cached_tokens: int | None = None
    path: str = ""
    done: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def tokens(self) -> list[int]:
        return [sample.token_id for sample in self.samples]

    def take(self, update: decode_pb2.RequestUpdate) -> None:
        assert self.finish is None, "an update after the last one"
        self.samples += [sample_from_wire(token) for token in update.tokens]
        self.prompt_logprobs += [sample_from_wire(token) for token in update.prompt_logprobs]
        self.path = self.path or update.prefill_path
        if update.HasField("cached_tokens"):
            self.cached_tokens = update.cached_tokens
        self.begun.set()
        self.finish = finish_from_wire(update.finish_reason)
        if self.finish is not None:
            self.error, self.code = update.error.message, update.error.code
            self.done.set()


@dataclass
class Worker:
    engine: EngineLoop
    server: grpc.aio.Server
    service: RoleService
    address: str
    turns: list[Turn]

    async def aclose(self) -> None:
        await self.service.aclose()
        await self.server.stop(0)
        await self.engine.stop()

    @property
    def load(self) -> EngineLoad:
        """As the last turn told it."""
        return self.turns[-1].report.load


class DecodeClient:
    """One stream to one decode worker, as a router keeps it."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._call = decode_pb2_grpc.DecodeStub(self._channel).Stream()
        self._answers: dict[str, Answer] = {}
        self._reader = asyncio.create_task(self._read())

    async def submit(
        self,
        request_id: str,
        prompt: Sequence[int],
        params: SamplingParams,
        *,
        output: Sequence[int] = (),
        prefill: Sequence[str] = (),
        deadline_s: float = ANSWER_LIMIT_S,
    ) -> Answer:
        answer = self._answers[request_id] = Answer()
        submit = decode_pb2.Submit(
            request_id=request_id,
            prompt_token_ids=prompt,
            output_token_ids=output,
            sampling=params_to_wire(params),
            deadline_s=deadline_s,
            prefill_candidates=prefill,
        )
        await self._call.write(decode_pb2.DecodeCommand(submit=submit))
        return answer

    async def cancel(self, request_id: str) -> None:
        cancel = decode_pb2.Cancel(request_id=request_id)
        await self._call.write(decode_pb2.DecodeCommand(cancel=cancel))

    async def aclose(self) -> None:
        self._reader.cancel()
        await self._channel.close()

    async def _read(self) -> None:
        async for frame in self._call:
            for update in frame.updates:
                self._answers[update.request_id].take(update)


@dataclass
class Road:
    prefill: list[Worker]
    decode: list[Worker]
    clients: list[DecodeClient]
    _numbers: list[int] = field(default_factory=list)

    async def start(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        *,
        decode: int = 0,
        prefill: int | None = 0,
        output: Sequence[int] = (),
    ) -> Answer:
        """Submit to decode worker `decode`, with prefill worker `prefill` (None: compute there)."""
        self._numbers.append(len(self._numbers))
        candidates = [] if prefill is None else [self.prefill[prefill].address]
        return await self.clients[decode].submit(
            f"request-{len(self._numbers)}", prompt, params, output=output, prefill=candidates
        )

    async def ask(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        *,
        decode: int = 0,
        prefill: int | None = 0,
        output: Sequence[int] = (),
    ) -> Answer:
        """As `start`, waiting for the end."""
        answer = await self.start(prompt, params, decode=decode, prefill=prefill, output=output)
        async with asyncio.timeout(ANSWER_LIMIT_S):
            await answer.done.wait()
        return answer


@asynccontextmanager
async def open_road(
    model: LocalModel,
    *,
    prefill: int = 1,
    decode: int = 1,
    step_tokens_max: int = 512,
    sequences_max: int = 8,
    decode_blocks: int | None = None,
    quantization: Quantization = Quantization.NONE,
    kv: KvCacheDtype = KvCacheDtype.AUTO,
    threads: int = 1,
    speculation: Speculation = Speculation.NONE,
    draft: LocalModel | None = None,
) -> AsyncIterator[Road]:
    """`decode_blocks` bounds the decode workers' pool, to make them preempt."""
    settings = WorkerSettings(
        port=1,  # each worker listens on a free port instead
        model=f"file://{model.path}",
        model_name="test",
        quantization=quantization,
        kv_cache_dtype=kv,
        cache_dir=CACHE_DIR,  # of all tests: the kernels in it are built once
        threads=threads,
        kv_cache_mib=256,
        step_tokens_max=step_tokens_max,
        sequences_max=sequences_max,
        speculation=speculation,
        draft_model=None if draft is None else f"file://{draft.path}",
    )
    workers: list[Worker] = []
    clients: list[DecodeClient] = []
    try:
        for index in range(prefill + decode):
            blocks = decode_blocks if index >= prefill else None
            role = PrefillService if index < prefill else DecodeService
            workers.append(await _start_worker(settings, role, blocks))
        clients = [DecodeClient(worker.address) for worker in workers[prefill:]]
        yield Road(workers[:prefill], workers[prefill:], clients)
    finally:
        for client in clients:
            await client.aclose()
        for worker in reversed(workers):
            await worker.aclose()


async def _start_worker(
    settings: WorkerSettings,
    role: type[PrefillService] | type[DecodeService],
    blocks: int | None,
) -> Worker:
    plan = plan_model(settings)
    if blocks is not None:
        capacity = min(plan.context_length_max, blocks * settings.block_size)
        plan = replace(plan, block_count=blocks, context_length_max=capacity)
    costs = CostModel()
    turns: list[Turn] = []
    failures: list[Exception] = []
    engine = EngineLoop(
        partial(build_engine, settings, plan, costs, StepProgress()),
        limits=QueueLimits(settings.queue_requests_max, settings.queue_tokens_max),
        constrain=Constraints(plan.model, vocab_size=plan.config.vocab_size).of,
        observe=turns.append,
        broken=failures.append,
    )
    life = WorkerLife()
    parts = WorkerParts(
        engine,
        life,
        plan.layout,
        plan.config.vocab_size,
        SystemClock(),
        Metrics(CollectorRegistry(), model_name="test"),
        costs,
    )
    service = role(parts)
    server = new_server()
    service.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await engine.start()
    life.advance(WorkerEvent.LOADED)
    return Worker(engine, server, service, f"127.0.0.1:{port}", turns)
