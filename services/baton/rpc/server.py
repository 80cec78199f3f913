"""The gRPC server every worker runs: limits, keepalive and one mapping from our errors to status
codes.

Knows no service: the caller registers its servicers.
"""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import NoReturn, Protocol

import grpc
import grpc.aio

from baton.common.errors import BatonError
from baton.rpc.channels import CHANNEL_OPTIONS

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


def new_server() -> grpc.aio.Server:
    return grpc.aio.server(options=SERVER_OPTIONS)


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
