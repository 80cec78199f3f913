"""Who asks: the request's id, and whose key came with it. A value; knows no HTTP."""

from dataclasses import dataclass

from baton.router.tenants.register import Tenant


@dataclass(frozen=True, slots=True)
class Caller:
    request_id: str
    tenant: Tenant | None = None  # None: this router asks for no keys
