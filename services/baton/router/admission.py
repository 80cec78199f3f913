"""Whether a request may enter: the work in flight is bounded in requests and in prompt tokens, and
a tenant's in requests.

Pure: counts only. Knows no clock, no HTTP and no workers.
"""

from dataclasses import dataclass
from enum import Enum

from baton.router.tenants.register import Tenant


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
    TENANT_REQUESTS = "too many requests of this tenant in flight"


@dataclass(frozen=True, slots=True)
class Refusal:
    reason: Shed
    in_flight: int
    limit: int
    tenant: str | None = None  # whose limit it is; None: everybody's


class Admission:
    """The ledger of admitted work. Every `admit` that returns None is paired with one `release`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.in_flight = Demand(0, 0)
        self._requests: dict[str, int] = {}  # in flight, of each tenant that has any

    def admit(self, demand: Demand, tenant: Tenant | None = None) -> Refusal | None:
        """Count `demand` in, or say why not. An idle router admits anything: a demand beyond the
        limits could otherwise never be served. A tenant's limit is one: others have to be served
        beside it."""
        refusal = self._refusal(demand, tenant)
        if refusal is None:
            self.in_flight = Demand(
                self.in_flight.requests + demand.requests,
                self.in_flight.prompt_tokens + demand.prompt_tokens,
            )
            self._count(tenant, demand.requests)
        return refusal

    def release(self, demand: Demand, tenant: Tenant | None = None) -> None:
        left = Demand(
            self.in_flight.requests - demand.requests,
            self.in_flight.prompt_tokens - demand.prompt_tokens,
        )
        assert left.requests >= 0, "released more requests than were admitted"
        assert left.prompt_tokens >= 0, "released more prompt tokens than were admitted"
        self.in_flight = left
        self._count(tenant, -demand.requests)

    def _count(self, tenant: Tenant | None, requests: int) -> None:
        if tenant is None:
            return
        left = self._requests.pop(tenant.name, 0) + requests
        assert left >= 0, "released more requests of a tenant than were admitted"
        if left:
            self._requests[tenant.name] = left

    def _refusal(self, demand: Demand, tenant: Tenant | None) -> Refusal | None:
        now, limits = self.in_flight, self._limits
        if tenant is not None and tenant.requests_max is not None:
            own = self._requests.get(tenant.name, 0)
            if own + demand.requests > tenant.requests_max:
                return Refusal(Shed.TENANT_REQUESTS, own, tenant.requests_max, tenant.name)
        if now.requests == 0:
            return None
        if now.requests + demand.requests > limits.requests_max:
            return Refusal(Shed.REQUESTS, now.requests, limits.requests_max)
        if now.prompt_tokens + demand.prompt_tokens > limits.prompt_tokens_max:
            return Refusal(Shed.PROMPT_TOKENS, now.prompt_tokens, limits.prompt_tokens_max)
        return None
