"""What the cluster asks the router, on a port of its own: metrics, probes, signals for scaling.

Kept from clients: none of it is theirs to see. Knows how answers look over HTTP; what they say is
made elsewhere.
"""

from collections.abc import Callable

import msgspec
from fastapi import APIRouter, FastAPI, Response

from baton.common.metrics import Metrics
from baton.common.signals import RouterSignals, encode_signals
from baton.router.readiness import Readiness
from baton.router.traffic import Traffic


def operations_app(
    metrics: Metrics,
    traffic: Traffic,
    readiness: Callable[[], Readiness],
    signals: Callable[[], RouterSignals],
) -> FastAPI:
    app = FastAPI(title="Baton router", openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(metrics_routes(metrics, traffic))
    app.include_router(ready_routes(readiness))

    @app.get("/live")
    async def live() -> Response:
        # Whoever answers runs its event loop; there is nothing else here that could be stuck.
        return json_response({"status": "ok"})

    @app.get("/signals")
    async def show_signals() -> Response:
        return Response(encode_signals(signals()), media_type="application/json")

    return app


def metrics_routes(metrics: Metrics, traffic: Traffic) -> APIRouter:
    routes = APIRouter()
    metrics.follow("baton_draining", lambda: traffic.draining)

    @routes.get("/metrics")
    async def show_metrics() -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4")

    return routes


def ready_routes(readiness: Callable[[], Readiness]) -> APIRouter:
    routes = APIRouter()

    @routes.get("/ready")
    async def ready() -> Response:
        told = readiness()
        return json_response(told.body(), 200 if told.ready else 503)

    return routes


def json_response(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
