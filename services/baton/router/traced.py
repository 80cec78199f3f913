"""A span around each request of a client, in pure ASGI, under the client's own where it has one.

Stands around requests only where they are traced. Knows HTTP; what is generated tells the rest.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from baton.common.tracing import (
    NO_PARENT,
    TRACEPARENT_LENGTH_MAX,
    TRACESTATE_LENGTH_MAX,
    Kind,
    Parent,
    Tracing,
)
from baton.router.middleware import API_PREFIX, CLIENT_GONE_STATUS, endpoint_of, request_id_of
from baton.router.request_trace import RequestTrace


class Traced:
    """Within RequestIds, whose ids it tells. Probes and scrapes are nobody's request."""

    def __init__(self, app: ASGIApp, *, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(API_PREFIX):
            await self._app(scope, receive, send)
            return
        method, status = scope["method"], CLIENT_GONE_STATUS
        attributes = {
            "http.request.method": method,
            "url.scheme": scope["scheme"],
            "baton.request_id": request_id_of(scope),
        }
        span = self._tracing.begin(method, Kind.SERVER, parent_of(scope), attributes)
        scope["state"]["trace"] = RequestTrace(span)

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        finally:
            endpoint = endpoint_of(scope)
            span.rename(f"{method} {endpoint}")
            span.note({"http.route": endpoint, "http.response.status_code": status})
            span.end()


def parent_of(scope: Scope) -> Parent:
    """As W3C Trace Context reads headers: one traceparent, any number of tracestates."""
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"]
    if len(values) != 1 or len(values[0]) > TRACEPARENT_LENGTH_MAX:
        return NO_PARENT
    states = [value.decode("latin-1") for name, value in scope["headers"] if name == b"tracestate"]
    tracestate = ",".join(states)
    return Parent(values[0], tracestate if len(tracestate) <= TRACESTATE_LENGTH_MAX else "")
