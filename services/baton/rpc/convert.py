"""Protobuf <-> domain values: the only file that sees both. Knows no channels and no services.

Values from the wire are checked here, so that nothing behind this edge meets an impossible number.
"""

from baton.common.errors import BatonError, InvalidRequest, error_class
from baton.engine.params import FinishReason, SamplingParams, TokenLogprob, TokenSample
from baton.rpc.v1 import decode_pb2, worker_pb2

_FINISH_TO_WIRE = {
    FinishReason.STOP: decode_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: decode_pb2.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: decode_pb2.FINISH_REASON_CANCELLED,
    FinishReason.DEADLINE: decode_pb2.FINISH_REASON_DEADLINE,
    FinishReason.ERROR: decode_pb2.FINISH_REASON_ERROR,
}
_FINISH_FROM_WIRE = {wire: reason for reason, wire in _FINISH_TO_WIRE.items()}


def params_to_wire(params: SamplingParams) -> worker_pb2.SamplingParams:
    return worker_pb2.SamplingParams(
        max_tokens=params.max_tokens,
        min_tokens=params.min_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        min_p=params.min_p,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        repetition_penalty=params.repetition_penalty,
        logit_bias=[
            worker_pb2.LogitBias(token_id=token_id, bias=bias)
            for token_id, bias in params.logit_bias
        ],
        seed=params.seed,
        stop_token_ids=params.stop_token_ids,
        ignore_eos=params.ignore_eos,
        logprobs=params.logprobs,
        prompt_logprobs=params.prompt_logprobs,
        grammar=params.grammar,
    )


def params_from_wire(wire: worker_pb2.SamplingParams) -> SamplingParams:
    """Raises InvalidRequest for values no router sends."""
    problems = [
        text
        for bad, text in (
            (wire.max_tokens < 1, "max_tokens must be at least 1"),
            (not wire.temperature >= 0.0, "temperature must not be negative"),
            (not 0.0 < wire.top_p <= 1.0, "top_p must be in (0, 1]"),
            (not 0.0 <= wire.min_p <= 1.0, "min_p must be in [0, 1]"),
            (not wire.repetition_penalty > 0.0, "repetition_penalty must be positive"),
        )
        if bad
    ]
    if problems:
        raise InvalidRequest("; ".join(problems))
    return SamplingParams(
        max_tokens=wire.max_tokens,
        min_tokens=wire.min_tokens,
        temperature=wire.temperature,
        top_p=wire.top_p,
        top_k=wire.top_k,
        min_p=wire.min_p,
        presence_penalty=wire.presence_penalty,
        frequency_penalty=wire.frequency_penalty,
        repetition_penalty=wire.repetition_penalty,
        logit_bias=tuple((entry.token_id, entry.bias) for entry in wire.logit_bias),
        seed=wire.seed,
        stop_token_ids=tuple(wire.stop_token_ids),
        ignore_eos=wire.ignore_eos,
        logprobs=wire.logprobs if wire.HasField("logprobs") else None,
        prompt_logprobs=wire.prompt_logprobs if wire.HasField("prompt_logprobs") else None,
        grammar=wire.grammar if wire.HasField("grammar") else None,
    )


def sample_to_wire(sample: TokenSample) -> worker_pb2.TokenSample:
    if sample.logprob is None:  # then it has no alternatives either
        return worker_pb2.TokenSample(token_id=sample.token_id)
    return worker_pb2.TokenSample(
        token_id=sample.token_id,
        logprob=sample.logprob,
        top=[
            worker_pb2.TokenLogprob(token_id=entry.token_id, logprob=entry.logprob)
            for entry in sample.top
        ],
    )


def sample_from_wire(wire: worker_pb2.TokenSample) -> TokenSample:
    if not wire.HasField("logprob"):  # then it has no alternatives either
        return TokenSample(wire.token_id)
    return TokenSample(
        token_id=wire.token_id,
        logprob=wire.logprob,
        top=tuple(TokenLogprob(entry.token_id, entry.logprob) for entry in wire.top),
    )


def finish_to_wire(reason: FinishReason) -> decode_pb2.FinishReason.ValueType:
    return _FINISH_TO_WIRE[reason]


def finish_from_wire(wire: decode_pb2.FinishReason.ValueType) -> FinishReason | None:
    """None while the request goes on."""
    return _FINISH_FROM_WIRE.get(wire)


def error_to_wire(error: BatonError) -> decode_pb2.RequestError:
    return decode_pb2.RequestError(
        code=error.code, message=error.message, retryable=error.retryable
    )


def error_from_wire(wire: decode_pb2.RequestError) -> BatonError:
    """The error another process raised, as the class it was there."""
    kind = error_class(wire.code)
    error = kind.__new__(kind)
    BatonError.__init__(error, wire.message)
    return error
