"""The router as a process: settings, model, HTTP server, and the drain that ends it.

Knows sockets and the way to stop; knows no endpoints.
"""

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence

import uvicorn
import uvloop

from baton.common.clock import SystemClock
from baton.common.config import read_settings
from baton.common.errors import BatonError
from baton.common.lifecycle import EXIT_FAILED, Shutdown
from baton.common.logs import configure_logs, get_log
from baton.router.app import create_app, load_text_model
from baton.router.settings import RouterSettings
from baton.router.traffic import Traffic

KEEP_ALIVE_S = 75
"""Longer than the 60 s after which usual proxies and clients drop an idle connection: the side
that reuses it must be the one to close it."""

CLOSE_LIMIT_S = 3
"""After the drain only streams whose clients do not read are left."""

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
        return uvloop.run(_serve(settings))
    except BatonError as error:
        print(f"baton.router: {error.message}", file=sys.stderr)
        return EXIT_FAILED


async def _serve(settings: RouterSettings) -> int:
    shutdown = Shutdown()
    shutdown.install()
    clock, traffic = SystemClock(), Traffic()
    # A download may take minutes; a signal is heard meanwhile.
    model = await asyncio.to_thread(load_text_model, settings, clock)
    app = create_app(settings, model, clock=clock, traffic=traffic)
    server = _Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
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
    shutdown.enter_service()
    drain = asyncio.create_task(_drain(server, traffic, shutdown, settings.drain_timeout_s))
    try:
        await server.serve()
    except SystemExit:  # uvicorn's word for a port that cannot be had; it has logged why
        return EXIT_FAILED
    finally:
        drain.cancel()
    return 0


async def _drain(
    server: uvicorn.Server, traffic: Traffic, shutdown: Shutdown, limit_s: float
) -> None:
    """Once asked to stop: refuse new requests, let the running ones end, then close the port."""
    await shutdown.wait()
    traffic.drain()
    _log.info("draining", requests=traffic.in_flight)
    ended = await traffic.wait_idle(limit_s)
    _log.info("stopping", requests=traffic.in_flight, all_ended=ended)
    server.should_exit = True
