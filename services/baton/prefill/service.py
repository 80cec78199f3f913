"""`Prefill.Run`: one call is one prompt, computed and handed over. Frees its blocks when it ends.

Knows one call; queueing is the engine's, framing the sender's.
"""

import itertools
from contextlib import aclosing

import grpc.aio

from baton.common.tracing import Attributes
from baton.engine.messages import Cancel, Command, Release, Submit
from baton.engine.params import FinishReason
from baton.handoff.codec import PrefillOrder, layout_from_wire, order_from_wire
from baton.handoff.layout import Extent
from baton.handoff.sender import Sender
from baton.handoff.session import SenderSession, span_blocks_max
from baton.rpc.server import errors_to_status
from baton.rpc.v1 import prefill_pb2, prefill_pb2_grpc
from baton.worker.intake import require_computable
from baton.worker.letterbox import Letterbox
from baton.worker.parts import WorkerParts
from baton.worker.spans import RequestSpan

RunContext = grpc.aio.ServicerContext[prefill_pb2.PrefillRequest, prefill_pb2.PrefillFrame]


class PrefillService(prefill_pb2_grpc.PrefillServicer):
    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts
        # Two decode workers may use the same request id, and one may ask again before we have
        # forgotten its first call.
        self._call_numbers = itertools.count()

    def register(self, server: grpc.aio.Server) -> None:
        prefill_pb2_grpc.add_PrefillServicer_to_server(self, server)

    async def aclose(self) -> None:
        """Calls end by themselves: nothing waits for more work."""

    # A coroutine that writes itself (the generated stub knows iterators only): it is cancelled the
    # moment the caller goes, where a generator is left to the garbage collector.
    async def Run(  # type: ignore[override]  # noqa: N802
        self, request: prefill_pb2.PrefillRequest, context: RunContext
    ) -> None:
        async with errors_to_status(context):
            with self._parts.spans.begin(
                "prefill", request.traceparent, _attributes(request)
            ) as told:
                await self._serve(request, context, told)

    async def _serve(
        self, request: prefill_pb2.PrefillRequest, context: RunContext, told: RequestSpan
    ) -> None:
        self._parts.layout.require_same(layout_from_wire(request.layout))
        self._parts.life.require_ready()
        order = order_from_wire(request)
        require_computable(order, vocab_size=self._parts.vocab_size)
        session = SenderSession(
            Extent(order.tokens, self._parts.layout.block_size),
            skip_blocks=request.skip_blocks,
            blocks_max=span_blocks_max(self._parts.layout.block_bytes),
        )
        await self._export(order, session, context, told)

    async def _export(
        self, order: PrefillOrder, session: SenderSession, context: RunContext, told: RequestSpan
    ) -> None:
        engine, metrics, letterbox = self._parts.engine, self._parts.metrics, Letterbox()
        engine_id = f"{next(self._call_numbers)}/{order.request_id}"
        sender = Sender(session, letterbox, engine.kv, tokens=order.tokens)
        engine.submit(_export_command(engine_id, order), letterbox)
        told.follow(engine_id, computes=True)
        bytes_sent = 0
        try:
            with metrics.under_way("baton_handoff_inflight"):
                async with aclosing(sender.frames()) as frames:
                    async for frame in frames:
                        await context.write(frame)
                        payload_bytes = len(frame.kv.payload)
                        bytes_sent += payload_bytes
                        metrics.count("baton_handoff_bytes_total", payload_bytes, direction="sent")
        finally:
            told.span.note({"baton.bytes_sent": bytes_sent})
            engine.post(_ending(engine_id, computed=sender.computed))


def _export_command(engine_id: str, order: PrefillOrder) -> Submit:
    return Submit(
        engine_id,
        order.prompt,
        order.params,
        output=order.output,
        cache_salt=order.cache_salt,
        export=True,
        priority=order.priority,
    )


def _ending(engine_id: str, *, computed: bool) -> Command:
    if computed:
        return Release(engine_id)
    return Cancel(engine_id, FinishReason.CANCELLED)


def _attributes(request: prefill_pb2.PrefillRequest) -> Attributes:
    return {
        "baton.request_id": request.request_id,
        "baton.output_tokens_before": len(request.output_token_ids),
        "baton.skipped_blocks": request.skip_blocks,
        "gen_ai.usage.input_tokens": len(request.prompt_token_ids),
    }
