"""The endpoints: what is asked under which path. Knows no models beyond their names, and no
workers.
"""

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from baton.router.middleware import caller_of
from baton.router.openai import responses, tokens
from baton.router.openai.bodies import Bodies
from baton.router.openai.service import Completions
from baton.router.operations import json_response
from baton.router.page import page_response
from baton.router.traffic import Traffic


def api_routes(completions: Completions, bodies: Bodies) -> APIRouter:
    """OpenAI's endpoints."""
    routes = APIRouter(prefix="/v1")

    @routes.post("/chat/completions")
    async def chat_completions(request: Request) -> Response:
        body = await bodies.of(request)
        return await completions.chat(body, caller_of(request.scope))

    @routes.post("/completions")
    async def text_completions(request: Request) -> Response:
        body = await bodies.of(request)
        return await completions.completion(body, caller_of(request.scope))

    @routes.post("/responses")
    async def responses_create(request: Request) -> Response:
        body = await bodies.of(request)
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


def token_routes(completions: Completions, bodies: Bodies) -> APIRouter:
    """vLLM's, under its paths."""
    routes = APIRouter()

    @routes.post("/tokenize")
    async def tokenize(request: Request) -> Response:
        return json_response(await tokens.tokenize(await bodies.of(request), completions))

    @routes.post("/detokenize")
    async def detokenize(request: Request) -> Response:
        return json_response(await tokens.detokenize(await bodies.of(request), completions))

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
