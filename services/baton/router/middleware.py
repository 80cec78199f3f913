"""Around every request, in pure ASGI: its id, its metrics, and the watch for clients that go away.

Knows no endpoints. (Starlette's BaseHTTPMiddleware would hide disconnects from us.)
"""

import asyncio
import re
from collections.abc import Callable
from typing import cast

from fastapi import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from baton.common.errors import EngineFailure, InvalidRequest
from baton.common.logs import get_log
from baton.common.metrics import Metrics
from baton.router.caller import Caller
from baton.router.openai.errors import error_response
from baton.router.request_trace import RequestTrace
from baton.router.tenants.register import Tenant
from baton.router.traffic import Traffic

REQUEST_ID_HEADER = b"x-request-id"
SLO_TTFT_HEADERS = (b"x-slo-ttft-ms", b"x-llm-d-slo-ttft-ms")
"""Of the Gateway API's inference extension, and of llm-d, where it went."""

_MILLISECONDS = re.compile(rb"[0-9]{1,9}")
CONNECTION_CLOSE = (b"connection", b"close")
API_PREFIX = "/v1/"
CLIENT_GONE_STATUS = 499  # nginx's number for it; nobody receives it
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")

_log = get_log(__name__)


def request_id_of(scope: Scope) -> str:
    return str(scope["state"]["request_id"])


def trace_of(scope: Scope) -> RequestTrace:
    """Of nothing, where requests are not traced."""
    return cast(RequestTrace, scope.get("state", {}).get("trace") or RequestTrace())


def caller_of(scope: Scope) -> Caller:
    """Where keys are asked for, whose key came is known by now. Raises InvalidRequest."""
    tenant = cast("Tenant | None", scope["state"].get("tenant"))
    return Caller(request_id_of(scope), tenant, trace_of(scope), _first_token_within_s(scope))


def _first_token_within_s(scope: Scope) -> float | None:
    for name, value in scope["headers"]:
        if name in SLO_TTFT_HEADERS:
            if not _MILLISECONDS.fullmatch(value) or not int(value):
                told = name.decode()
                raise InvalidRequest(f"'{told}' must be milliseconds, at least 1.", param=told)
            return int(value) / 1_000
    return None


def endpoint_of(scope: Scope) -> str:
    """The route's template, never the path itself: labels must not grow with what clients send."""
    route = scope.get("route")
    return str(getattr(route, "path", "unknown"))


def straight_send(scope: Scope, send: Send) -> Send:
    """For what stands between an answer's start and its last message, which nobody around a request
    looks at: past all their `send`s, straight to where the outermost one leads."""
    return cast(Send, scope.get("state", {}).get("send", send))


class RequestIds:
    """Takes the client's `x-request-id` if it is a sane one, else makes one; answers with it."""

    def __init__(self, app: ASGIApp, *, new_id: Callable[[], str]) -> None:
        self._app = app
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((v for k, v in scope["headers"] if k == REQUEST_ID_HEADER), b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else self._new_id().encode()
        scope.setdefault("state", {}).update(request_id=request_id.decode(), send=send)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (REQUEST_ID_HEADER, request_id)]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_with_id)


class Observed:
    """Counts requests by endpoint and status, turns a bug into an error in OpenAI's shape, and asks
    clients of a draining router to connect anew, elsewhere."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, traffic: Traffic) -> None:
        self._app = app
        self._metrics = metrics
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._traffic.draining:
                    headers = [*message.get("headers", ()), CONNECTION_CLOSE]
                    message = {**message, "headers": headers}
            await send(message)

        # Probes and scrapes are no traffic: a drain need not wait for them.
        counted = scope["path"].startswith(API_PREFIX)
        if counted:
            self._traffic.enter()
            self._metrics.gauge("baton_router_requests_inflight", self._traffic.in_flight)
        try:
            await self._app(scope, receive, noting_send)
        except Exception as error:
            span, failure = trace_of(scope).span, EngineFailure("internal error")
            request_id = request_id_of(scope)
            _log.error(
                "request failed by a bug", error=error, request_id=request_id, **span.log_fields
            )
            span.fail(failure.code)
            if status:
                raise  # too late for an answer: the server closes the connection
            response: Response = error_response(failure)
            await response(scope, receive, noting_send)
        finally:
            if counted:
                self._traffic.leave()
                self._metrics.gauge("baton_router_requests_inflight", self._traffic.in_flight)
            self._metrics.count(
                "baton_router_requests_total",
                endpoint=endpoint_of(scope),
                status=str(status or CLIENT_GONE_STATUS),
            )


class DisconnectWatch:
    """Cancels the work on a request the moment its client goes away.

    Begins once the body is read, so it covers the wait for the first token as well as whole and
    streamed answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Watched(receive, send).run(self._app, scope)


class _Watched:
    """One request under watch."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._watcher: asyncio.Task[None] | None = None
        self._answered = False
        self._gone = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        try:
            await app(scope, self._receiving, self._sending)
        except asyncio.CancelledError:
            if not self._gone:
                raise  # the server itself is stopping
            task.uncancel()
        finally:
            if self._watcher is not None:
                self._watcher.cancel()

    async def _receiving(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._watcher = asyncio.create_task(self._watch(), name="disconnect watch")
        return message

    async def _sending(self, message: Message) -> None:
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._answered = True

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._answered:
            self._gone = True
            self._task.cancel()
