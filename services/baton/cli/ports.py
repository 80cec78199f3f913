"""Loopback ports: which are free, and whether the one we want is.

Knows sockets, not what uses them.
"""

import errno
import socket
from contextlib import ExitStack

from baton.common.errors import ConfigError


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """`count` different ports that nobody listens on now.

    Another program may take one before we bind it; the process then dies and is restarted.
    """
    with ExitStack() as held:  # all at once, or the kernel may give the same port twice
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((host, 0))
        return [int(one.getsockname()[1]) for one in sockets]


def require_free(host: str, port: int) -> None:
    """Raises ConfigError when `host:port` cannot be listened on."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise ConfigError([f"--host {host}: {error.strerror}"]) from None
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the HTTP server does
        try:
            probe.bind(address)
        except OSError as error:
            raise ConfigError([f"cannot listen on {host}:{port}: {_reason(error)}"]) from None


def _reason(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the port is in use; choose another with --port (make serve PORT=...)"
        case errno.EACCES:
            return "ports below 1024 need a privileged user; choose another with --port"
        case _:
            return error.strerror or str(error)
