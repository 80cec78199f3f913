"""Engine events as the updates a router reads. Values in, protobuf out; knows no stream."""

from baton.common.errors import BatonError
from baton.engine.failure import request_failure
from baton.engine.messages import Tokens
from baton.engine.params import FinishReason
from baton.rpc.convert import error_to_wire, finish_to_wire, sample_to_wire
from baton.rpc.v1 import decode_pb2


def tokens_update(request_id: str, event: Tokens, *, path: str) -> decode_pb2.RequestUpdate:
    """`path` is empty in all but the first update."""
    update = decode_pb2.RequestUpdate(
        request_id=request_id, tokens=[sample_to_wire(token) for token in event.tokens]
    )
    if event.cached_tokens is not None:
        update.cached_tokens = event.cached_tokens
    if event.prompt_logprobs:
        update.prompt_logprobs.extend(sample_to_wire(one) for one in event.prompt_logprobs)
    if path:
        update.prefill_path = path
    if event.finish is not None:
        update.finish_reason = finish_to_wire(event.finish)
    if event.finish is FinishReason.ERROR:
        update.error.CopyFrom(error_to_wire(request_failure(event.error)))
    return update


def error_update(request_id: str, error: BatonError) -> decode_pb2.RequestUpdate:
    """The last update of a request that ended before the engine could say so."""
    return decode_pb2.RequestUpdate(
        request_id=request_id,
        finish_reason=decode_pb2.FINISH_REASON_ERROR,
        error=error_to_wire(error),
    )


def finish_update(request_id: str, reason: FinishReason) -> decode_pb2.RequestUpdate:
    return decode_pb2.RequestUpdate(request_id=request_id, finish_reason=finish_to_wire(reason))
