"""The status port against real sockets: it answers what it should, bounds what it reads, and no
slow or silent caller keeps it from the next."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus

import httpx
import pytest
from baton.common.errors import ConfigError
from baton.worker.status_port import (
    CONNECTIONS_MAX,
    REQUEST_BYTES_MAX,
    REQUEST_LIMIT_S,
    Routes,
    StatusPort,
    text,
)


@contextmanager
def serving(routes: Routes | None = None) -> Iterator[StatusPort]:
    port = StatusPort("127.0.0.1", 0, routes or {"/live": lambda: text(HTTPStatus.OK, "ok")})
    with closing(port):
        yield port


def url(port: StatusPort, path: str) -> str:
    return f"http://127.0.0.1:{port.port}{path}"


def get(port: StatusPort, path: str = "/live") -> httpx.Response:
    return httpx.get(url(port, path), trust_env=False, timeout=10.0)


def sent(port: StatusPort, request: bytes) -> bytes:
    """All that comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", port.port), timeout=10.0) as connection:
        connection.sendall(request)
        received = b""
        while more := connection.recv(65_536):
            received += more
        return received


def test_routes_answer_with_their_status_type_and_body() -> None:
    busy = text(HTTPStatus.SERVICE_UNAVAILABLE, "starting")
    with serving({"/live": lambda: text(HTTPStatus.OK, "ok"), "/ready": lambda: busy}) as port:
        live = get(port)
        assert (live.status_code, live.text) == (200, "ok\n")
        assert live.headers["content-type"] == "text/plain; charset=utf-8"
        ready = get(port, "/ready?verbose=1")
        assert (ready.status_code, ready.text) == (503, "starting\n")
        unknown = get(port, "/")
        assert (unknown.status_code, unknown.text) == (404, "there is only /live, /ready\n")


def test_head_has_no_body_and_other_methods_are_refused() -> None:
    with serving() as port:
        head = httpx.head(url(port, "/live"), trust_env=False)
        assert (head.status_code, head.headers["content-length"], head.content) == (200, "3", b"")
        assert httpx.post(url(port, "/live"), trust_env=False).status_code == 405


@pytest.mark.parametrize(
    "junk",
    [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"GET /live SPDY/9\r\n\r\n"],
)
def test_what_is_no_http_is_told_so(junk: bytes) -> None:
    with serving() as port:
        assert sent(port, junk).startswith(b"HTTP/1.1 400 ")
        assert get(port).status_code == 200


def test_a_request_without_end_is_read_up_to_the_limit() -> None:
    with serving() as port:
        endless = b"GET /live HTTP/1.1\r\nX: " + b"x" * (REQUEST_BYTES_MAX + 1)
        assert sent(port, endless).startswith(b"HTTP/1.1 431 ")


def test_silent_callers_keep_nobody_waiting_and_are_let_go() -> None:
    with serving() as port:
        silent = socket.create_connection(("127.0.0.1", port.port), timeout=3 * REQUEST_LIMIT_S)
        with silent:
            silent.sendall(b"GET /live")
            began_s = time.monotonic()
            assert get(port).status_code == 200
            assert time.monotonic() - began_s < REQUEST_LIMIT_S / 2
            assert silent.recv(1) == b""


def test_callers_above_the_limit_are_turned_away_until_there_is_room() -> None:
    release = threading.Event()

    def slow() -> object:
        release.wait(10.0)
        return text(HTTPStatus.OK, "ok")

    with serving({"/slow": slow, "/live": lambda: text(HTTPStatus.OK, "ok")}) as port:  # type: ignore[dict-item]
        held = [
            socket.create_connection(("127.0.0.1", port.port), timeout=10.0)
            for _ in range(CONNECTIONS_MAX)
        ]
        for connection in held:
            connection.sendall(b"GET /slow HTTP/1.1\r\n\r\n")
        with pytest.raises(httpx.TransportError):
            get(port)
        release.set()
        for connection in held:
            with connection:
                assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
                while connection.recv(65_536):
                    pass
        assert get(port).status_code == 200


def test_a_route_that_fails_costs_its_caller_only() -> None:
    def broken() -> object:
        raise RuntimeError("bug")

    with serving({"/live": lambda: text(HTTPStatus.OK, "ok"), "/bad": broken}) as port:  # type: ignore[dict-item]
        assert get(port, "/bad").status_code == 500
        assert get(port).status_code == 200


def test_a_taken_port_is_a_configuration_error() -> None:
    with serving() as port, pytest.raises(ConfigError, match="cannot listen"):
        StatusPort("127.0.0.1", port.port, {})
