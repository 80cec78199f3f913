"""The operator's HTTP port: /live, /ready and /metrics. Knows no reconciling."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from baton_operator.metrics import OperatorMetrics

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STOP_TIMEOUT_S = 2.0  # for scrapes under way

_Handler = Callable[[web.Request], Awaitable[web.Response]]


class HealthServer:
    """Answers while the event loop turns, which is what liveness asks."""

    def __init__(self, metrics: OperatorMetrics, is_ready: Callable[[], bool]) -> None:
        app = web.Application()
        app.router.add_get("/live", _answer(lambda: True))
        app.router.add_get("/ready", _answer(is_ready))
        app.router.add_get("/metrics", _metrics(metrics))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_TIMEOUT_S)

    async def start(self, host: str, port: int) -> None:
        """Raises OSError where the port is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def aclose(self) -> None:
        await self._runner.cleanup()


def _answer(holds: Callable[[], bool]) -> _Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=200, text="ok\n") if holds() else web.Response(status=503)

    return answer


def _metrics(metrics: OperatorMetrics) -> _Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": METRICS_TYPE})

    return answer
