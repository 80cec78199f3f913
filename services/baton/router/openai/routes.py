"""The endpoints: what is asked under which path. Reads bodies, within limits, and nothing else.

Knows no models beyond their names, and no workers.
"""

import asyncio

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from baton.common.errors import Cancelled, Draining
from baton.common.metrics import Metrics
from baton.router.middleware import caller_of
from baton.router.openai import responses
from baton.router.openai.service import Completions
from baton.router.operations import json_response
from baton.router.page import page_response
from baton.router.traffic import Traffic

BODY_LIMIT_S = 30.0
"""Megabytes over a slow line take seconds; a body that takes longer holds a connection for
nothing."""


def api_routes(
    completions: Completions, traffic: Traffic, metrics: Metrics, *, body_bytes_max: int
) -> APIRouter:
    """OpenAI's endpoints."""
    routes = APIRouter(prefix="/v1")

    async def body_of(request: Request) -> bytes:
        if traffic.refusing:
            metrics.count("baton_router_refusals_total", reason="draining")
            raise Draining("The server is shutting down.")
        return await _body(request, body_bytes_max)

    @routes.post("/chat/completions")
    async def chat_completions(request: Request) -> Response:
        body = await body_of(request)
        return await completions.chat(body, caller_of(request.scope))

    @routes.post("/completions")
    async def text_completions(request: Request) -> Response:
        body = await body_of(request)
        return await completions.completion(body, caller_of(request.scope))

    @routes.post("/responses")
    async def responses_create(request: Request) -> Response:
        body = await body_of(request)
        return await completions.response(body, caller_of(request.scope))

    @routes.api_route("/responses/{path:path}", methods=["GET", "POST", "DELETE"])
    async def responses_stored() -> Response:
        raise HTTPException(404, "This server stores no responses: there is none under this path.")

    @routes.get("/models")
    async def models() -> Response:
        return json_response(
            responses.models_body(completions.model, completions.context_length_max)
        )

    @routes.get("/models/{name:path}")
    async def model(name: str) -> Response:
        completions.check_model(name)
        return json_response(
            responses.model_body(completions.model, completions.context_length_max)
        )

    return routes


def people_routes(traffic: Traffic) -> APIRouter:
    """What people and plain load balancers look at."""
    routes = APIRouter()

    @routes.get("/")
    async def page() -> Response:
        return page_response()

    @routes.get("/health")
    async def health() -> Response:
        if traffic.draining:
            return json_response({"status": "draining"}, 503)
        return json_response({"status": "ok"})

    return routes


async def _body(request: Request, bytes_max: int) -> bytes:
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
