"""The gRPC server every worker runs: limits, keepalive, TLS and one mapping from our errors to
status codes.

Knows no service: the caller registers its servicers.
"""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import NoReturn, Protocol

import grpc
import grpc.aio

from baton.common.clock import Clock
from baton.common.errors import BatonError, ConfigError
from baton.rpc.channels import CHANNEL_OPTIONS
from baton.rpc.gate import Gate
from baton.rpc.identity_files import IdentitySource, TlsFiles

CONCURRENT_STREAMS_MAX = 4096
"""Per connection: above any queue bound we set, so that refusals are ours and carry a reason."""

ERROR_CODE_KEY = "baton-error-code"
"""Trailing metadata that carries `BatonError.code`, finer than the gRPC status."""

SERVER_OPTIONS = (
    *CHANNEL_OPTIONS,
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_concurrent_streams", CONCURRENT_STREAMS_MAX),
    # Two processes must never share a port by accident: the second one fails to bind.
    ("grpc.so_reuseport", 0),
)


class Abortable(Protocol):
    """The part of a servicer context that ends a call."""

    def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str], ...]
    ) -> Awaitable[NoReturn]: ...


def new_server(tls: TlsFiles | None = None) -> grpc.aio.Server:
    """A server that is to `listen` with the same `tls`."""
    gate = Gate(None if tls is None else tls.name)
    return grpc.aio.server(options=SERVER_OPTIONS, interceptors=(gate,))


def listen(
    server: grpc.aio.Server,
    address: str,
    tls: TlsFiles | None = None,
    *,
    clock: Clock | None = None,
) -> int:
    """Add "host:port"; the port that was bound. Without `tls`: plaintext.

    With it both sides show a certificate. Raises ConfigError when the files are unfit or the
    address cannot be had.
    """
    try:
        if tls is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(
            address, _server_credentials(IdentitySource(tls, clock=clock))
        )
    except RuntimeError as error:
        raise ConfigError([f"cannot listen on {address}: {error}"]) from error


def _server_credentials(source: IdentitySource) -> grpc.ServerCredentials:
    """Asks `source` at every handshake, on gRPC's threads; connections that stand, stand."""

    def configuration() -> grpc.ServerCertificateConfiguration:
        identity = source.current()
        return grpc.ssl_server_certificate_configuration(
            [(identity.key, identity.certificate)], root_certificates=identity.ca
        )

    return grpc.dynamic_ssl_server_credentials(
        configuration(), configuration, require_client_authentication=True
    )


@asynccontextmanager
async def errors_to_status(context: Abortable) -> AsyncIterator[None]:
    """Inside, a BatonError ends the call with its gRPC status, code and message."""
    try:
        yield
    except BatonError as error:
        await context.abort(
            grpc.StatusCode[error.grpc_status],
            error.message,
            ((ERROR_CODE_KEY, error.code),),
        )
