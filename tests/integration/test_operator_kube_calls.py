"""Calls to an API server that misbehaves: what is tried again, how often, and what is not."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from baton_operator.kinds import Kind
from baton_operator.kube import CALL_TIMEOUT_S, TRIES_MAX, ApiFailure, ApiServer
from kubernetes.aio import client

Script = list[Callable[[web.Request], Awaitable[web.StreamResponse]]]


def answers(
    status: int, body: object = None, **headers: str
) -> Callable[..., Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(body or {}, status=status, headers=headers)

    return answer


async def hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@contextlib.asynccontextmanager
async def api_server(
    script: Script, *, call_timeout_s: float = CALL_TIMEOUT_S
) -> AsyncIterator[tuple[ApiServer, list[web.Request], Counter[int]]]:
    asked: list[web.Request] = []
    counted: Counter[int] = Counter()

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        await request.read()
        return await script.pop(0)(request)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    async with TestServer(app) as server:
        settings = client.Configuration(host=str(server.make_url("")).rstrip("/"))
        api = ApiServer(
            client.ApiClient(settings),
            jitter=random.Random(1),
            count=lambda _, status: counted.update([status]),
            call_timeout_s=call_timeout_s,
        )
        yield api, asked, counted
        await api.aclose()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_passing_failure_is_tried_again(status: int) -> None:
    found = {"metadata": {"name": "smol"}}
    async with api_server([answers(status), answers(200, found)]) as (api, asked, counted):
        assert await api.read(Kind.SERVICE, "models", "smol") == found
    assert len(asked) == 2
    assert counted == {status: 1, 200: 1}


async def test_a_broken_connection_is_tried_again() -> None:
    role = {"kind": "Role", "metadata": {"namespace": "n", "name": "r"}}
    async with api_server([hangs_up, answers(200, role)]) as (api, _, counted):
        assert await api.apply(role) == role
    assert counted == {0: 1, 200: 1}


async def test_tries_have_an_end() -> None:
    async with api_server([answers(503)] * 9) as (api, asked, _):
        with pytest.raises(ApiFailure) as caught:
            await api.read(Kind.SERVICE, "models", "smol")
    assert len(asked) == TRIES_MAX
    assert (caught.value.status, caught.value.refused) == (503, False)


@pytest.mark.parametrize("status", [400, 403, 422])
async def test_a_refusal_is_not_asked_again(status: int) -> None:
    said = {"reason": "Invalid", "message": "unknown field"}
    async with api_server([answers(status, said)]) as (api, asked, _):
        with pytest.raises(ApiFailure, match="unknown field") as caught:
            await api.apply({"kind": "Service", "metadata": {"namespace": "n", "name": "s"}})
    assert len(asked) == 1
    assert caught.value.refused


async def test_a_conflict_is_not_a_refusal() -> None:
    async with api_server([answers(409)]) as (api, _, _):
        with pytest.raises(ApiFailure) as caught:
            await api.replace({"kind": "Lease", "metadata": {"namespace": "n", "name": "s"}})
    assert not caught.value.refused


async def test_what_is_not_there_reads_as_nothing_and_is_deleted_already() -> None:
    async with api_server([answers(404), answers(404), answers(409)]) as (api, asked, _):
        assert await api.read(Kind.SERVICE, "models", "smol") is None
        await api.delete(Kind.SERVICE, "models", "smol", "uid")
        await api.delete(Kind.SERVICE, "models", "smol", "uid")  # another one by now
    assert len(asked) == 3


async def test_a_list_comes_in_pages_and_items_know_their_kind() -> None:
    first = {"metadata": {"continue": "token"}, "items": [{"metadata": {"name": "a"}}]}
    second = {"metadata": {}, "items": [{"metadata": {"name": "b"}}]}
    async with api_server([answers(200, first), answers(200, second)]) as (api, asked, _):
        found = await api.list(Kind.DEPLOYMENT, "models", {"b": "2", "a": "1"})
    assert [(one["kind"], one["apiVersion"]) for one in found] == [("Deployment", "apps/v1")] * 2
    assert asked[0].path == "/apis/apps/v1/namespaces/models/deployments"
    assert asked[0].query["labelSelector"] == "a=1,b=2"
    assert asked[1].query["continue"] == "token"


async def test_apply_is_server_side_forced_and_in_our_name() -> None:
    manifest = {"kind": "Role", "metadata": {"namespace": "models", "name": "smol-router"}}
    async with api_server([answers(200, manifest)]) as (api, asked, _):
        await api.apply(manifest)
    (request,) = asked
    assert (request.method, request.content_type) == ("PATCH", "application/apply-patch+yaml")
    assert request.path == "/apis/rbac.authorization.k8s.io/v1/namespaces/models/roles/smol-router"
    assert dict(request.query) == {"fieldManager": "baton-operator", "force": "true"}


async def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    released = asyncio.Event()

    async def silence(_: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    async with api_server([silence] * TRIES_MAX, call_timeout_s=0.05) as (api, asked, _):
        with pytest.raises(ApiFailure, match="does not answer"):
            await api.read(Kind.SERVICE, "models", "smol")
        released.set()
    assert len(asked) == TRIES_MAX


async def test_an_answer_that_is_no_json_is_told_as_it_is() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(status=404, text="<html>not here</html>")

    async with api_server([page]) as (api, _, _):
        with pytest.raises(ApiFailure, match="not here"):
            await api.apply({"kind": "Service", "metadata": {"namespace": "n", "name": "s"}})
