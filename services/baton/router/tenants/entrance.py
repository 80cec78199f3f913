"""At the entrance: whose key came with a request, in pure ASGI; without one it goes no further.

Stands before the body is read. Knows headers and paths; knows no endpoints. A key is forgotten once
it is looked up: no message, log line or metric has it.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from baton.common.errors import InvalidKey
from baton.common.metrics import Metrics
from baton.router.openai.errors import error_response
from baton.router.tenants.register import Tenant
from baton.router.tenants.register_file import RegisterFile

OPEN_PATHS = frozenset({"/", "/health", "/ready", "/metrics"})
"""For people, load balancers, probes and scrapes. Whatever else there is, or will be, asks for a
key."""


class Entrance:
    def __init__(self, app: ASGIApp, *, register: RegisterFile, metrics: Metrics) -> None:
        self._app = app
        self._register = register
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Never the URL's path: that is put together with the Host header, which a client chooses
        # (CVE-2026-48746).
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        try:
            scope["state"]["tenant"] = self._tenant(_key(scope))
        except InvalidKey as error:
            self._metrics.count("baton_router_refusals_total", reason="key")
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _tenant(self, key: bytes) -> Tenant:
        tenant = self._register.current().tenant_of(key)
        if tenant is None:
            raise InvalidKey("Incorrect API key provided.")
        return tenant


def _key(scope: Scope) -> bytes:
    """Raises InvalidKey. Of two headers none is taken: who stands before us may have looked at the
    other one."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    scheme, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
    if scheme.lower() != b"bearer" or not key.strip():
        raise InvalidKey(
            "You didn't provide an API key. It goes into the header 'Authorization: Bearer KEY'."
        )
    return bytes(key.strip())
