"""Who asks: the request's id, whose key came with it, and its trace. A value; knows no HTTP."""

from dataclasses import dataclass, field

from baton.router.request_trace import RequestTrace
from baton.router.tenants.register import Tenant


@dataclass(frozen=True, slots=True)
class Caller:
    request_id: str
    tenant: Tenant | None = None  # None: this router asks for no keys
    trace: RequestTrace = field(default_factory=RequestTrace)
    first_token_within_s: float | None = None  # later it is of no use to him
