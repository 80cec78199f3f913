"""A decode worker without an engine: a real gRPC server that says what its script tells it.

The tokens are a function of prompt and seed alone, so a resumed request continues where another
worker stopped, as with the real engine.
"""

import asyncio
import contextlib
import dataclasses
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from baton.rpc.identity_files import TlsFiles
from baton.rpc.server import listen
from baton.rpc.v1 import decode_pb2, decode_pb2_grpc, worker_pb2, worker_pb2_grpc

from support.byte_tokenizer import EOS

PARIS = "Paris is the capital of France."
STARTING = worker_pb2.WORKER_STATE_STARTING
READY = worker_pb2.WORKER_STATE_READY
DRAINING = worker_pb2.WORKER_STATE_DRAINING
_incarnations = itertools.count(1)


def says(text: str) -> Callable[[decode_pb2.Submit], list[int]]:
    """A reply that is always this text and then ends."""
    return lambda submit: [*text.encode(), EOS]


@dataclass
class Script:
    """How the worker behaves."""

    reply: Callable[[decode_pb2.Submit], Sequence[int]] = field(default=says(PARIS))
    hold_after: int | None = None  # send no further tokens of a request until `released`
    break_after: int | None = None  # the stream breaks after so many tokens of a submit
    refuse: decode_pb2.RequestError | None = None  # instead of the first token
    fail_after: int | None = None  # end with an engine failure instead of this token
    silent: bool = False  # take requests and say nothing
    released: asyncio.Event = field(default_factory=asyncio.Event)
    cached_tokens: int = 4


class FakeDecode(decode_pb2_grpc.DecodeServicer, worker_pb2_grpc.WorkerServicer):
    """Use as an async context manager; `address` is known inside."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        context_length_max: int = 120,
        role: worker_pb2.Role = worker_pb2.ROLE_DECODE,
        model_name: str = "bytes",
        port: int = 0,
        tls: TlsFiles | None = None,
    ) -> None:
        self.script = script or Script()
        self.submits: list[decode_pb2.Submit] = []
        self.cancels: list[str] = []
        self.streams = 0
        self.address = ""
        self.load = worker_pb2.Load()
        self.cost_model: worker_pb2.CostModel | None = None  # None: has learned nothing
        self.blocks: list[bytes] = []  # ids it holds from the start
        self.heartbeat_s: float | None = 1.0  # None: silent but for changes of state
        self._role = role
        self._port = port
        self._tls = tls
        self._context_length_max = context_length_max
        self._model_name = model_name
        self._incarnation = next(_incarnations)
        self._state = READY
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> "FakeDecode":
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        decode_pb2_grpc.add_DecodeServicer_to_server(self, self._server)
        worker_pb2_grpc.add_WorkerServicer_to_server(self, self._server)
        port = listen(self._server, f"127.0.0.1:{self._port}", self._tls)
        self.address = f"127.0.0.1:{port}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def kill(self) -> None:
        """Every connection breaks at once."""
        await self._server.stop(None)

    async def become(self, state: worker_pb2.WorkerState) -> None:
        async with self._changed:
            self._state = state
            self._changed.notify_all()

    async def until(self, condition: Callable[["FakeDecode"], bool]) -> None:
        """Returns once the world is so; what changes it notifies."""
        async with self._changed, asyncio.timeout(5):
            await self._changed.wait_for(lambda: condition(self))

    async def Watch(  # noqa: N802
        self, request: worker_pb2.WatchRequest, context: Any
    ) -> AsyncIterator[worker_pb2.WatchEvent]:
        layout = worker_pb2.KvLayout(model_revision="r", layers=1, block_size=16, dtype="float32")
        card = worker_pb2.WorkerCard(
            role=self._role,
            model_name=self._model_name,
            layout=layout,
            context_length_max=self._context_length_max,
        )
        for sequence in itertools.count():
            told = self._state
            yield worker_pb2.WatchEvent(
                incarnation=self._incarnation,
                sequence=sequence,
                state=told,
                load=self.load,
                cost_model=self.cost_model,
                blocks_added=self.blocks if not sequence else (),
                card=None if sequence else card,
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.heartbeat_s), self._changed:
                    await self._changed.wait_for(lambda told=told: self._state != told)

    async def Stream(  # noqa: N802
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[decode_pb2.StepFrame]:
        self.streams += 1
        frames: asyncio.Queue[decode_pb2.StepFrame | None] = asyncio.Queue()
        tasks = [asyncio.create_task(self._listen(request_iterator, frames))]
        try:
            while (frame := await frames.get()) is not None:
                yield frame
            await context.abort(grpc.StatusCode.UNAVAILABLE, "as scripted")
        finally:
            for task in tasks:
                task.cancel()

    async def _listen(
        self, commands: Any, frames: "asyncio.Queue[decode_pb2.StepFrame | None]"
    ) -> None:
        running: dict[str, asyncio.Task[None]] = {}
        try:
            async for command in commands:
                if command.HasField("submit"):
                    submit = command.submit
                    async with self._changed:
                        self.submits.append(submit)
                        self._changed.notify_all()
                    running[submit.request_id] = asyncio.create_task(self._answer(submit, frames))
                else:
                    async with self._changed:
                        self.cancels.append(command.cancel.request_id)
                        self._changed.notify_all()
                    running[command.cancel.request_id].cancel()
        finally:
            for task in running.values():
                task.cancel()

    async def _answer(
        self, submit: decode_pb2.Submit, frames: "asyncio.Queue[decode_pb2.StepFrame | None]"
    ) -> None:
        script = dataclasses.replace(self.script)
        if script.silent:
            return
        if script.refuse is not None:
            update = decode_pb2.RequestUpdate(
                request_id=submit.request_id,
                finish_reason=decode_pb2.FINISH_REASON_ERROR,
                error=script.refuse,
            )
            frames.put_nowait(decode_pb2.StepFrame(updates=[update]))
            return
        full = list(script.reply(submit))[: submit.sampling.max_tokens]
        for index in range(len(submit.output_token_ids), len(full)):
            if index == script.hold_after:
                await script.released.wait()
            if index - len(submit.output_token_ids) == script.break_after:
                frames.put_nowait(None)
                return
            if index == script.fail_after:
                frames.put_nowait(_failure(submit))
                return
            frames.put_nowait(self._step(submit, full, index))
            await asyncio.sleep(0)

    def _step(self, submit: decode_pb2.Submit, full: list[int], index: int) -> decode_pb2.StepFrame:
        update = decode_pb2.RequestUpdate(
            request_id=submit.request_id, tokens=[sample(full[index], submit)]
        )
        if index == len(submit.output_token_ids):
            update.cached_tokens = self.script.cached_tokens
            update.prefill_path = "local"
            if submit.sampling.HasField("prompt_logprobs"):
                first = worker_pb2.TokenSample(token_id=submit.prompt_token_ids[0])
                rest = [sample(token, submit) for token in submit.prompt_token_ids[1:]]
                update.prompt_logprobs.extend([first, *rest])
        if _stops(submit, full[index]):
            update.finish_reason = decode_pb2.FINISH_REASON_STOP
        elif index + 1 == len(full):
            update.finish_reason = decode_pb2.FINISH_REASON_LENGTH
        return decode_pb2.StepFrame(updates=[update])


def _stops(submit: decode_pb2.Submit, token_id: int) -> bool:
    eos = token_id == EOS and not submit.sampling.ignore_eos
    return eos or token_id in submit.sampling.stop_token_ids


def sample(token_id: int, submit: decode_pb2.Submit) -> worker_pb2.TokenSample:
    """With the logprob -token_id/256 and, as alternatives, the token and those after it."""
    wanted = submit.sampling
    if not (wanted.HasField("logprobs") or wanted.HasField("prompt_logprobs")):
        return worker_pb2.TokenSample(token_id=token_id)
    top = [
        worker_pb2.TokenLogprob(token_id=(token_id + i) % 256, logprob=-token_id / 256 - i)
        for i in range(wanted.logprobs)
    ]
    return worker_pb2.TokenSample(token_id=token_id, logprob=-token_id / 256, top=top)


def _failure(submit: decode_pb2.Submit) -> decode_pb2.StepFrame:
    update = decode_pb2.RequestUpdate(
        request_id=submit.request_id,
        finish_reason=decode_pb2.FINISH_REASON_ERROR,
        error=decode_pb2.RequestError(code="engine_failure", message="a step failed"),
    )
    return decode_pb2.StepFrame(updates=[update])
