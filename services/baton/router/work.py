"""What the router asks of decode workers and hears from them: values, and the two Protocols that
stand between the story of a request and the streams that carry it.

Knows no gRPC and no HTTP.
"""

from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from baton.common.errors import BatonError
from baton.engine.params import FinishReason, SamplingParams, TokenSample
from baton.router.fleet import Fleet
from baton.router.request_trace import RequestTrace
from baton.router.tenants.register import Tenant


@dataclass(frozen=True, slots=True)
class Work:
    """One output to be generated, whichever worker does it."""

    work_id: str  # unique in this process and, in practice, anywhere
    prompt: tuple[int, ...]
    params: SamplingParams
    deadline_s: float  # on the router's monotonic clock
    cache_salt: bytes = b""
    tenant: Tenant | None = None  # whose turn it takes; None: where there are none
    priority: int = 0  # the lower, the sooner; of a tenant, among what is its own
    first_token_by_s: float | None = None  # on the same clock; None: whenever it comes
    trace: RequestTrace = field(default_factory=RequestTrace)


@dataclass(frozen=True, slots=True)
class Submission:
    """One try of a piece of work on one worker."""

    request_id: str
    prompt: tuple[int, ...]
    output: tuple[int, ...]  # what earlier tries generated
    params: SamplingParams
    remaining_s: float
    prefill_candidates: tuple[str, ...]
    cache_salt: bytes
    traceparent: str = ""  # of the try; empty when untraced
    priority: int = 0


class Update(msgspec.Struct, frozen=True):
    """News of one request, from one step of its worker: one per token, so made in C (a frozen
    dataclass costs as much as reading the update from the wire)."""

    tokens: tuple[TokenSample, ...] = ()
    finish: FinishReason | None = None
    error: BatonError | None = None  # with FinishReason.ERROR
    retryable: bool = False  # of `error`, as the worker sees it
    cached_tokens: int | None = None  # in the first update
    prompt_logprobs: tuple[TokenSample, ...] = ()  # in the first update, where asked


class Ticket(Protocol):
    """A submission under way. It ends with an update that has `finish`, with an error, or by
    `cancel`."""

    @property
    def lost(self) -> bool:
        """Whether the worker went away while it had this submission."""

    async def next(self) -> Update:
        """The next update. Raises Unavailable when the worker went away."""

    def fail(self, error: BatonError) -> None:
        """Make `next` raise `error` once the updates before it are read."""

    def cancel(self) -> None:
        """Tell the worker to stop, unless the submission has ended. Never waits."""


class DecodeSide(Protocol):
    async def submit(self, address: str, submission: Submission) -> Ticket:
        """Raises Unavailable when the worker cannot be reached, Overloaded when it lags behind."""


class FleetSource(Protocol):
    @property
    def fleet(self) -> Fleet: ...
