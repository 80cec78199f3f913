"""The router as a process: settings, model, HTTP server, and the drain that ends it.

Knows sockets and the way to stop; knows no endpoints.
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import closing

import uvicorn
import uvloop
from fastapi import FastAPI

from baton.common.clock import SystemClock
from baton.common.config import read_settings
from baton.common.errors import BatonError, ConfigError
from baton.common.lifecycle import EXIT_FAILED, Shutdown
from baton.common.logs import configure_logs, get_log
from baton.common.tracing import Tracing
from baton.common.tracing_choice import open_tracing
from baton.router.app import create_router, load_text_model
from baton.router.settings import RouterSettings
from baton.router.traffic import Traffic

KEEP_ALIVE_S = 75
"""Longer than the 60 s after which usual proxies and clients drop an idle connection: the side
that reuses it must be the one to close it."""

CLOSE_LIMIT_S = 3
"""When the drain's time is up, only streams whose clients do not read are left."""

REFUSE_AFTER_S = 10.0
"""Requests still come after SIGTERM: over connections that were open, and from whoever has not yet
heard that this endpoint goes. They are served, and told to connect elsewhere; who comes later than
this does not listen."""

_log = get_log(__name__)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ours to handle: uvicorn would close the port before anyone heard of the drain."""
        yield


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the router until it is asked to stop. Returns the exit code."""
    configure_logs("router")
    try:
        settings = read_settings(RouterSettings, argv, environ, program="baton.router")
        with closing(open_tracing(environ, service_name="baton-router")) as tracing:
            return uvloop.run(_serve(settings, tracing))
    except BatonError as error:
        print(f"baton.router: {error.message}", file=sys.stderr)
        return EXIT_FAILED


async def _serve(settings: RouterSettings, tracing: Tracing) -> int:
    shutdown = Shutdown()
    shutdown.install()
    clock, traffic = SystemClock(), Traffic()
    # A download may take minutes; a signal is heard meanwhile.
    model = await asyncio.to_thread(load_text_model, settings, clock)
    router = create_router(settings, model, clock=clock, traffic=traffic, tracing=tracing)
    server = _server(router.api, settings.host, settings.port)
    shutdown.enter_service()
    drain = asyncio.create_task(_drain(server, traffic, shutdown, settings.drain_timeout_s))
    try:
        async with _operations(router.operations, settings):
            await server.serve()
    except SystemExit:  # uvicorn's word for a port that cannot be had; it has logged why
        return EXIT_FAILED
    finally:
        drain.cancel()
    return 0


@contextlib.asynccontextmanager
async def _operations(app: FastAPI, settings: RouterSettings) -> AsyncIterator[None]:
    """Serves the metrics port, if there is one, from before the first request until after the last.
    Raises ConfigError when the port cannot be had."""
    if not settings.metrics_port:
        yield
        return
    listening = _listening(settings.host, settings.metrics_port)
    server = _server(app, settings.host, settings.metrics_port)
    serving = asyncio.create_task(server.serve(sockets=[listening]), name="operations server")
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait({serving})


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError([f"--metrics-port {port}: {error.strerror}"]) from error


def _server(app: FastAPI, host: str, port: int) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            loop="none",  # ours already runs
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=CLOSE_LIMIT_S,
        )
    )


async def _drain(
    server: uvicorn.Server, traffic: Traffic, shutdown: Shutdown, limit_s: float
) -> None:
    """Once asked to stop: send clients elsewhere, let the running requests end, close the port."""
    await shutdown.wait()
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + limit_s
    traffic.drain()
    _log.info("draining", requests=traffic.in_flight)
    refusing = loop.call_later(REFUSE_AFTER_S, traffic.refuse)
    ended = await traffic.wait_idle(limit_s)
    refusing.cancel()
    _log.info("stopping", requests=traffic.in_flight, all_ended=ended)
    # A request may have come just now: it has what is left of the time.
    left_s = int(give_up_s - loop.time()) if ended else 0
    server.config.timeout_graceful_shutdown = max(CLOSE_LIMIT_S, left_s)
    server.should_exit = True
