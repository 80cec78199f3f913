"""Whether a request may enter: the work in flight is bounded in requests and in prompt tokens.

Pure: counts only. Knows no clock, no HTTP and no workers.
"""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Demand:
    requests: int
    prompt_tokens: int  # summed over the requests


@dataclass(frozen=True, slots=True)
class Limits:
    requests_max: int
    prompt_tokens_max: int


class Shed(Enum):
    """Why a request was not admitted."""

    REQUESTS = "too many requests in flight"
    PROMPT_TOKENS = "too many prompt tokens in flight"


@dataclass(frozen=True, slots=True)
class Refusal:
    reason: Shed
    in_flight: int
    limit: int


class Admission:
    """The ledger of admitted work. Every `admit` that returns None is paired with one `release`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.in_flight = Demand(0, 0)

    def admit(self, demand: Demand) -> Refusal | None:
        """Count `demand` in, or say why not. An idle router admits anything: a demand beyond the
        limits could otherwise never be served."""
        refusal = self._refusal(demand)
        if refusal is None:
            self.in_flight = Demand(
                self.in_flight.requests + demand.requests,
                self.in_flight.prompt_tokens + demand.prompt_tokens,
            )
        return refusal

    def release(self, demand: Demand) -> None:
        left = Demand(
            self.in_flight.requests - demand.requests,
            self.in_flight.prompt_tokens - demand.prompt_tokens,
        )
        assert left.requests >= 0, "released more requests than were admitted"
        assert left.prompt_tokens >= 0, "released more prompt tokens than were admitted"
        self.in_flight = left

    def _refusal(self, demand: Demand) -> Refusal | None:
        now, limits = self.in_flight, self._limits
        if now.requests == 0:
            return None
        if now.requests + demand.requests > limits.requests_max:
            return Refusal(Shed.REQUESTS, now.requests, limits.requests_max)
        if now.prompt_tokens + demand.prompt_tokens > limits.prompt_tokens_max:
            return Refusal(Shed.PROMPT_TOKENS, now.prompt_tokens, limits.prompt_tokens_max)
        return None
