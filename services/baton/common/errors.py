"""The one exception tree of Baton, and how each error looks over HTTP and gRPC.

Knows codes and statuses; knows no framework: the router renders `http_status` and `code` into
OpenAI's error object, the gRPC edge renders `grpc_status`, and both read the same class attributes.

    BatonError
    +-- InvalidRequest            the caller must change something (400)
    |   +-- PromptTooLong         prompt + max_tokens exceed a limit (400)
    |   +-- ModelNotFound         unknown model name (404)
    |   +-- InvalidKey            no API key, or one that nobody has (401)
    +-- Unavailable               the same request may succeed elsewhere or later (503, retryable)
    |   +-- Overloaded            a bounded queue is full (429, retryable)
    |   +-- Draining              the worker takes no new work (503, retryable)
    |   +-- WorkerFailed          the worker broke while it ran the request (503, retryable)
    +-- DeadlineExceeded          the request's one deadline passed (504)
    +-- Cancelled                 the caller went away (499)
    +-- LayoutMismatch            two workers hold KV in different layouts (409)
    +-- TransferCorrupt           a KV frame is not what its header says (502, retryable)
    +-- ModelFileError            a model file is truncated, corrupt or unsupported (500)
    |   +-- ModelSourceError      a model reference is malformed or cannot be fetched (500)
    +-- ConfigError               settings are wrong; lists every problem at once (500)
    |   +-- InvalidSpec           a custom resource asks for what cannot be (500)
    +-- IllegalTransition         an event that its state does not take: our bug (500)
    +-- EngineFailure             a step failed or an invariant broke: our bug (500)
"""

from collections.abc import Sequence
from typing import ClassVar


class BatonError(Exception):
    """Root of the tree. `message` is for the caller: no paths, addresses or stack traces in it."""

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    grpc_status: ClassVar[str] = "INTERNAL"  # a name of grpc.StatusCode
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param  # the request field at fault, for OpenAI's error object


class InvalidRequest(BatonError):
    code = "invalid_request"
    http_status = 400
    grpc_status = "INVALID_ARGUMENT"


class PromptTooLong(InvalidRequest):
    code = "context_length_exceeded"


class ModelNotFound(InvalidRequest):
    code = "model_not_found"
    http_status = 404
    grpc_status = "NOT_FOUND"


class InvalidKey(InvalidRequest):
    code = "invalid_api_key"
    http_status = 401
    grpc_status = "UNAUTHENTICATED"


class Unavailable(BatonError):
    code = "unavailable"
    http_status = 503
    grpc_status = "UNAVAILABLE"
    retryable = True


class Overloaded(Unavailable):
    code = "overloaded"
    http_status = 429
    grpc_status = "RESOURCE_EXHAUSTED"


class SloUnattainable(Overloaded):
    """The first token would come later than the client has said it is of use."""

    code = "slo_unattainable"

    def __init__(self, message: str, *, late_s: float) -> None:
        """`late_s`: by how much."""
        super().__init__(message)
        self.late_s = late_s


class Draining(Unavailable):
    code = "draining"


class WorkerFailed(Unavailable):
    """Unlike the rest of its branch it may be the request's doing: routers count it as a crash."""

    code = "worker_failed"


class DeadlineExceeded(BatonError):
    code = "deadline_exceeded"
    http_status = 504
    grpc_status = "DEADLINE_EXCEEDED"


class Cancelled(BatonError):
    code = "cancelled"
    http_status = 499
    grpc_status = "CANCELLED"


class LayoutMismatch(BatonError):
    code = "layout_mismatch"
    http_status = 409
    grpc_status = "FAILED_PRECONDITION"


class TransferCorrupt(BatonError):
    code = "transfer_corrupt"
    http_status = 502
    grpc_status = "DATA_LOSS"
    retryable = True


class ModelFileError(BatonError):
    code = "model_file_error"


class ModelSourceError(ModelFileError):
    code = "model_source_error"


class ConfigError(BatonError):
    """Every problem of a configuration, in one error."""

    code = "config_error"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class InvalidSpec(ConfigError):
    """Every problem of a custom resource's spec, in one error; each begins with its path."""

    code = "invalid_spec"


class IllegalTransition(BatonError):
    code = "illegal_transition"

    def __init__(self, machine: str, state: str, event: str) -> None:
        super().__init__(f"{machine}: event {event} is illegal in state {state}")
        self.machine, self.state, self.event = machine, state, event


class EngineFailure(BatonError):
    code = "engine_failure"


def error_class(code: str) -> type[BatonError]:
    """The class whose `code` this is, for errors that crossed a wire; BatonError for an unknown
    code."""
    pending: list[type[BatonError]] = [BatonError]
    while pending:
        candidate = pending.pop()
        if candidate.code == code:
            return candidate
        pending.extend(candidate.__subclasses__())
    return BatonError
