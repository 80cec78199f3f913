"""The story of one API call: parse, plan, admit, generate, answer whole or streamed.

Knows no routes and no sockets: a body comes in, a response goes out.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from fastapi import Response

from baton.common.clock import Clock
from baton.common.errors import BatonError, EngineFailure, ModelNotFound, Overloaded
from baton.common.logs import get_log
from baton.common.metrics import Metrics
from baton.router.admission import Admission, Demand
from baton.router.caller import Caller
from baton.router.fleet import Role
from baton.router.openai import chunks, responses
from baton.router.openai.generate import Piece, Runs, generate
from baton.router.openai.plan import Plan, plan_chat, plan_completion
from baton.router.openai.responses import Head, Usage
from baton.router.openai.responses_api.body import whole_response
from baton.router.openai.responses_api.chat import chat_request, told_by
from baton.router.openai.responses_api.events import ResponseEvents
from baton.router.openai.responses_api.request import ResponsesRequest
from baton.router.openai.schemas import ChatRequest, CompletionRequest, parse_body
from baton.router.openai.span import asked_attributes
from baton.router.openai.sse import EventStream
from baton.router.tally import Tally
from baton.router.telemetry import Meter, note_asked
from baton.router.text import TextModel
from baton.router.work import FleetSource

_log = get_log(__name__)


@dataclass(frozen=True, slots=True)
class _Style:
    """How an endpoint words its answers."""

    operation: str  # its name in traces
    id_prefix: str
    whole: Callable[[Plan, Head, TextModel, Sequence[Piece], Usage], dict[str, Any]]
    chunks: Callable[[Plan, Head, TextModel], chunks.Chunks]


_CHAT = _Style("chat", "chatcmpl-", responses.chat_completion, chunks.chat_chunks)
_COMPLETION = _Style("text_completion", "cmpl-", responses.text_completion, chunks.CompletionChunks)


class Completions:
    """The endpoints that generate, over one model."""

    def __init__(
        self,
        *,
        model: TextModel,
        fleet: FleetSource,
        runs: Runs,
        admission: Admission,
        metrics: Metrics,
        tally: Tally,
        clock: Clock,
        new_seed: Callable[[], int],
        new_id: Callable[[], str],
        request_timeout_s: float,
    ) -> None:
        self.model = model
        self._fleet = fleet
        self._runs = runs
        self._admission = admission
        self._metrics = metrics
        self._tally = tally
        self._clock = clock
        self._new_seed = new_seed
        self._new_id = new_id
        self._request_timeout_s = request_timeout_s

    @property
    def context_length_max(self) -> int:
        """Tokens of prompt + output: what the best ready worker holds, or the model's own limit
        while none is known."""
        ready = self._fleet.fleet.ready(Role.DECODE)
        held = max((view.context_length_max for view in ready), default=self.model.context_length)
        return min(held, self.model.context_length)

    async def chat(self, body: bytes, caller: Caller) -> Response:
        request = parse_body(ChatRequest, body)
        self.check_model(request.model)
        limit = self.context_length_max
        plan = await plan_chat(
            request, self.model, context_length_max=limit, new_seed=self._new_seed
        )
        return await self._answer(plan, _CHAT, caller)

    async def completion(self, body: bytes, caller: Caller) -> Response:
        request = parse_body(CompletionRequest, body)
        self.check_model(request.model)
        limit = self.context_length_max
        plan = await plan_completion(
            request, self.model, context_length_max=limit, new_seed=self._new_seed
        )
        return await self._answer(plan, _COMPLETION, caller)

    async def response(self, body: bytes, caller: Caller) -> Response:
        asked = parse_body(ResponsesRequest, body)
        self.check_model(asked.model)
        request, places = chat_request(asked)
        limit = self.context_length_max
        with told_by(places):
            plan = await plan_chat(
                request, self.model, context_length_max=limit, new_seed=self._new_seed
            )
        style = _Style(
            "chat", "resp_", partial(whole_response, asked), partial(ResponseEvents, asked)
        )
        return await self._answer(plan, style, caller)

    def check_model(self, name: str | None) -> None:
        """Raises ModelNotFound for a name that is another model's."""
        if name is not None and name != self.model.name:
            raise ModelNotFound(
                f"The model '{name[:100]}' does not exist; this server serves '{self.model.name}'.",
                param="model",
            )

    async def _answer(self, plan: Plan, style: _Style, caller: Caller) -> Response:
        head = Head(style.id_prefix + self._new_id(), int(self._clock.unix_s()), self.model.name)
        usage = Usage(plan.prompt_tokens)
        caller.trace.span.note(asked_attributes(plan, head, style.operation))
        pieces = self._pieces(plan, head, usage, caller)
        if plan.stream:
            events = style.chunks(plan, head, self.model)
            return EventStream(_told(events, pieces, usage), events.failure)
        async with aclosing(pieces):
            gathered = [piece async for piece in pieces]
        body = style.whole(plan, head, self.model, gathered, usage)
        return Response(msgspec.json.encode(body), media_type="application/json")

    async def _pieces(
        self, plan: Plan, head: Head, usage: Usage, caller: Caller
    ) -> AsyncGenerator[Piece, None]:
        """All pieces, admitted, counted and measured. Raises BatonError only."""
        demand = self._admitted(plan, caller)
        span = caller.trace.span
        meter = Meter(self._metrics, self._tally, self._clock, caller, head.id, usage)
        now_s, within_s = self._clock.monotonic_s(), caller.first_token_within_s
        try:
            generated = generate(
                plan,
                self._runs,
                self.model.tokenizer,
                plan_id=head.id,
                deadline_s=now_s + self._request_timeout_s,
                first_token_by_s=None if within_s is None else now_s + within_s,
                tenant=caller.tenant,
                trace=caller.trace,
            )
            async with aclosing(generated) as pieces:
                async for piece in pieces:
                    usage.add(piece)
                    meter.piece(piece)
                    yield piece
            meter.finished()
        except BatonError as error:
            meter.failed(error)
            raise
        except (GeneratorExit, asyncio.CancelledError):
            meter.abandoned()
            raise
        except Exception as error:
            _log.error(
                "request failed by a bug",
                error=error,
                request_id=caller.request_id,
                **span.log_fields,
            )
            failure = EngineFailure("internal error")
            meter.failed(failure)
            raise failure from error
        finally:
            self._admission.release(demand, caller.tenant)

    def _admitted(self, plan: Plan, caller: Caller) -> Demand:
        note_asked(self._metrics, plan)
        tokens = sum(len(choice.prompt.token_ids) for choice in plan.choices)
        demand = Demand(requests=len(plan.choices), prompt_tokens=tokens)
        refusal = self._admission.admit(demand, caller.tenant)
        if refusal is not None:
            reason = refusal.reason.name.lower()
            if refusal.tenant is None:  # else it is not this server that is short of anything
                self._metrics.count("vllm:admission_rejections_total", reason=reason)
            self._metrics.count("baton_router_refusals_total", reason=reason)
            who = "The server is busy" if refusal.tenant is None else f"Tenant {refusal.tenant}"
            error = Overloaded(
                f"{who}: {refusal.reason.value} ({refusal.in_flight}, limit {refusal.limit})."
            )
            caller.trace.span.fail(error.code)
            raise error
        return demand


async def _told(
    events: chunks.Chunks, pieces: AsyncGenerator[Piece, None], usage: Usage
) -> AsyncGenerator[bytes, None]:
    opened = False
    async with aclosing(pieces):
        async for piece in pieces:
            if opened:
                data = events.piece(piece)
            else:
                data = events.opening() + events.piece(piece)
                opened = True
            if data:
                yield data
    yield events.closing(usage)
