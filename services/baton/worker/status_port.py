"""A small HTTP port for probes and scrapers, on threads of its own: it answers while the event loop
is busy, stuck or not there yet.

Reads one GET per connection, within limits of bytes and time. Knows paths and answers; what they
say is its owner's.
"""

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

from baton.common.errors import ConfigError
from baton.common.logs import get_log

CONNECTIONS_MAX = 16
"""Kubelet's two probes, two Prometheus replicas and somebody with curl, with room to spare; more
are closed unanswered."""

REQUEST_BYTES_MAX = 8_192  # what servers commonly allow for request line and headers

REQUEST_LIMIT_S = 5.0
"""To send a request and to take its answer, each: probes give up sooner."""

_RECEIVE_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class Answer:
    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Routes = Mapping[str, Callable[[], Answer]]


def text(status: HTTPStatus, line: str) -> Answer:
    return Answer(status, f"{line}\n".encode())


class StatusPort:
    """Serves `routes` from construction until `close`. Raises ConfigError when it cannot listen.

    Port 0 takes any free one; `port` says which.
    """

    def __init__(self, host: str, port: int, routes: Routes) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._server = _Server(host, port, family, routes)
        except OSError as error:
            raise ConfigError([f"cannot listen on {host}:{port}: {error.strerror}"]) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="status port", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False  # a slow reader must not hold up the process

    def __init__(self, host: str, port: int, family: socket.AddressFamily, routes: Routes) -> None:
        self.address_family = family
        self.routes = routes
        self._places = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__((host, port), _Handler)

    def process_request(self, request: object, client_address: object) -> None:
        connection = cast(socket.socket, request)
        if not self._places.acquire(blocking=False):
            self.shutdown_request(connection)
            return
        super().process_request(connection, cast(tuple[str, int], client_address))

    def finish_request(self, request: object, client_address: object) -> None:
        try:
            super().finish_request(
                cast(socket.socket, request), cast(tuple[str, int], client_address)
            )
        finally:
            self._places.release()


class _Handler(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the caller went, or took too long: its loss
            line = self._request_line()
            if line is not None:
                self.request.settimeout(REQUEST_LIMIT_S)
                self.request.sendall(_response(line, self._answer(line)))

    def _request_line(self) -> str | None:
        """Of a request that came whole; empty: it is too long; None: the caller stopped short."""
        until_s = time.monotonic() + REQUEST_LIMIT_S
        received = b""
        while b"\r\n\r\n" not in received and len(received) <= REQUEST_BYTES_MAX:
            self.request.settimeout(max(0.001, until_s - time.monotonic()))
            more = self.request.recv(_RECEIVE_BYTES)
            if not more or time.monotonic() >= until_s:
                return None
            received += more
        whole = len(received) <= REQUEST_BYTES_MAX
        return received.split(b"\r\n", 1)[0].decode("latin-1") if whole else ""

    def _answer(self, line: str) -> Answer:
        try:
            return self._routed(line)
        except Exception as error:  # the caller must hear something, and the log what
            get_log(__name__).error("the status port failed to answer", error=error)
            return text(HTTPStatus.INTERNAL_SERVER_ERROR, "this worker failed to answer")

    def _routed(self, line: str) -> Answer:
        if not line:
            return text(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "this request is too long")
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return text(HTTPStatus.BAD_REQUEST, "this is no HTTP/1 request")
        if words[0] not in ("GET", "HEAD"):
            return text(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is answered here")
        route = self.server.routes.get(words[1].split("?", 1)[0])
        if route is None:
            known = ", ".join(sorted(self.server.routes))
            return text(HTTPStatus.NOT_FOUND, f"there is only {known}")
        return route()


def _response(line: str, answer: Answer) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode("latin-1")
    return head if line.startswith("HEAD ") else head + answer.body
