"""Hand-off values <-> protobuf: frames with their checksum, the layout, the prefill order.

Knows the wire format; knows no channel, no session and no cache. The checksum is CRC-32 (zlib): it
finds what TCP's 16-bit sum lets through, it does not defend against an attacker.
"""

import zlib
from dataclasses import dataclass

from baton.engine.params import SamplingParams, TokenSample
from baton.handoff.layout import KvLayout
from baton.handoff.session import BlocksClaim, Span
from baton.rpc.convert import params_from_wire, params_to_wire, sample_from_wire, sample_to_wire
from baton.rpc.v1 import prefill_pb2, worker_pb2


@dataclass(frozen=True, slots=True)
class PrefillOrder:
    """What decode asks of prefill, besides how many blocks to skip."""

    request_id: str
    prompt: tuple[int, ...]
    output: tuple[int, ...]
    params: SamplingParams
    cache_salt: bytes = b""
    priority: int = 0

    @property
    def tokens(self) -> int:
        """Tokens whose KV is handed over."""
        return len(self.prompt) + len(self.output)


@dataclass(frozen=True, slots=True)
class FirstToken:
    sample: TokenSample
    position: int  # its index in prompt + output
    cached_tokens: int  # prompt tokens prefill took from its own prefix cache


def layout_to_wire(layout: KvLayout) -> worker_pb2.KvLayout:
    return worker_pb2.KvLayout(
        model_revision=layout.model_revision,
        layers=layout.layers,
        kv_heads=layout.kv_heads,
        head_size=layout.head_size,
        block_size=layout.block_size,
        dtype=layout.dtype,
    )


def layout_from_wire(wire: worker_pb2.KvLayout) -> KvLayout:
    return KvLayout(
        model_revision=wire.model_revision,
        layers=wire.layers,
        kv_heads=wire.kv_heads,
        head_size=wire.head_size,
        block_size=wire.block_size,
        dtype=wire.dtype,
    )


def order_to_wire(
    order: PrefillOrder, layout: KvLayout, *, skip_blocks: int, traceparent: str = ""
) -> prefill_pb2.PrefillRequest:
    """`traceparent`: of the call, where it is traced."""
    return prefill_pb2.PrefillRequest(
        request_id=order.request_id,
        prompt_token_ids=order.prompt,
        output_token_ids=order.output,
        sampling=params_to_wire(order.params),
        skip_blocks=skip_blocks,
        layout=layout_to_wire(layout),
        cache_salt=order.cache_salt,
        traceparent=traceparent or None,
        priority=order.priority,
    )


def order_from_wire(wire: prefill_pb2.PrefillRequest) -> PrefillOrder:
    """Raises InvalidRequest for impossible sampling parameters."""
    return PrefillOrder(
        request_id=wire.request_id,
        prompt=tuple(wire.prompt_token_ids),
        output=tuple(wire.output_token_ids),
        params=params_from_wire(wire.sampling),
        cache_salt=wire.cache_salt,
        priority=wire.priority,
    )


def blocks_frame(span: Span, payload: bytes) -> prefill_pb2.PrefillFrame:
    """`payload`: the span's blocks, [layer][k,v][block][slot][head][dim]."""
    frame = prefill_pb2.PrefillFrame()
    # in place: a message given to another's constructor is copied, payload and all
    kv = frame.kv
    kv.first_block, kv.block_count = span.first_block, span.block_count
    kv.payload, kv.crc32 = payload, zlib.crc32(payload)
    return frame


def claim_from_wire(wire: prefill_pb2.KvBlocks, payload: bytes) -> BlocksClaim:
    """`payload` is `wire.payload`, which the caller has copied out once already."""
    return BlocksClaim(
        first_block=wire.first_block,
        block_count=wire.block_count,
        payload_bytes=len(payload),
        checksum_ok=zlib.crc32(payload) == wire.crc32,
    )


def first_token_frame(token: FirstToken) -> prefill_pb2.PrefillFrame:
    return prefill_pb2.PrefillFrame(
        first_token=prefill_pb2.FirstToken(
            token=sample_to_wire(token.sample),
            position=token.position,
            cached_tokens=token.cached_tokens,
        )
    )


def first_token_from_wire(wire: prefill_pb2.FirstToken) -> FirstToken:
    return FirstToken(sample_from_wire(wire.token), wire.position, wire.cached_tokens)
