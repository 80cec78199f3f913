"""The endpoints: what is asked under which path. Reads bodies, within limits, and nothing else.

Knows no models beyond their names and no workers beyond their number.
"""

import asyncio

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from baton.common.errors import Cancelled, Draining
from baton.common.metrics import Metrics
from baton.router.decide import Role
from baton.router.middleware import request_id_of
from baton.router.openai import responses
from baton.router.openai.service import Completions
from baton.router.page import page_response
from baton.router.traffic import Traffic
from baton.router.work import FleetSource

BODY_LIMIT_S = 30.0
"""Megabytes over a slow line take seconds; a body that takes longer holds a connection for
nothing."""


def api_routes(completions: Completions, traffic: Traffic, *, body_bytes_max: int) -> APIRouter:
    """OpenAI's endpoints."""
    routes = APIRouter(prefix="/v1")

    @routes.post("/chat/completions")
    async def chat_completions(request: Request) -> Response:
        body = await _body(request, traffic, body_bytes_max)
        return await completions.chat(body, request_id_of(request.scope))

    @routes.post("/completions")
    async def text_completions(request: Request) -> Response:
        body = await _body(request, traffic, body_bytes_max)
        return await completions.completion(body, request_id_of(request.scope))

    @routes.get("/models")
    async def models() -> Response:
        return _json(responses.models_body(completions.model, completions.context_length_max))

    @routes.get("/models/{name:path}")
    async def model(name: str) -> Response:
        completions.check_model(name)
        return _json(responses.model_body(completions.model, completions.context_length_max))

    return routes


def operator_routes(fleet: FleetSource, traffic: Traffic, metrics: Metrics) -> APIRouter:
    """What clusters and people look at."""
    routes = APIRouter()

    @routes.get("/")
    async def page() -> Response:
        return page_response()

    @routes.get("/health")
    async def health() -> Response:
        if traffic.draining:
            return _json({"status": "draining"}, 503)
        return _json({"status": "ok"})

    @routes.get("/ready")
    async def ready() -> Response:
        workers = {role.value: len(fleet.fleet.ready(role)) for role in Role}
        if traffic.draining:
            return _json({"status": "draining", "workers": workers}, 503)
        if not workers[Role.DECODE.value]:
            return _json({"status": "no decode worker is ready", "workers": workers}, 503)
        return _json({"status": "ready", "workers": workers})

    @routes.get("/metrics")
    async def show_metrics() -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4")

    return routes


async def _body(request: Request, traffic: Traffic, bytes_max: int) -> bytes:
    if traffic.draining:
        raise Draining("The server is shutting down.")
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise HTTPException(415, "The content type must be application/json.")
    try:
        async with asyncio.timeout(BODY_LIMIT_S):
            return await _read(request, bytes_max)
    except TimeoutError:
        raise HTTPException(408, f"The body did not arrive within {BODY_LIMIT_S:g} s.") from None
    except ClientDisconnect:
        raise Cancelled("The client went away.") from None


async def _read(request: Request, bytes_max: int) -> bytes:
    length = request.headers.get("content-length", "0")
    body = bytearray()
    too_large = length.isdecimal() and int(length) > bytes_max
    if not too_large:
        async for chunk in request.stream():
            body += chunk
            too_large = len(body) > bytes_max
            if too_large:
                break
    if too_large:
        # uvicorn discards the rest as it comes: a connection closed under a client that still
        # sends would be reset, and the client would never read this answer.
        raise HTTPException(413, f"The body may have at most {bytes_max} bytes.")
    return bytes(body)


def _json(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
