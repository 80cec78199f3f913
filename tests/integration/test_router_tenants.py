"""API keys and tenants, on the real router: who is let in, what is kept apart, counted
and limited."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from baton.common.errors import ConfigError
from support.crowd import bearer, crowd
from support.fake_decode import PARIS, FakeDecode
from support.router_process import RunningRouter, running_router
from support.tenant_files import KEYS, entry, write_register

CHAT = "/v1/chat/completions"
USER: Any = [{"role": "user", "content": "hi"}]
BODY: dict[str, Any] = {"model": "bytes", "messages": USER}


RED, BLUE, GREEN = (bearer(KEYS[name]) for name in ("red", "blue", "green"))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return write_register(
        tmp_path / "keys.json", entry("red"), entry("blue"), entry("green", requests_max=2)
    )


@pytest.fixture
async def worker() -> AsyncIterator[FakeDecode]:
    async with FakeDecode() as worker:
        yield worker


@pytest.fixture
async def router(worker: FakeDecode, keys: Path) -> AsyncIterator[RunningRouter]:
    async with running_router([worker], api_keys_file=keys) as router:
        yield router


def as_tenant(router: RunningRouter, name: str) -> openai.AsyncOpenAI:
    return router.openai.with_options(api_key=KEYS[name])


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([], id="none"),
        pytest.param([("authorization", "Bearer sk-baton-nobodys")], id="unknown"),
        pytest.param([("authorization", "Bearer ")], id="empty"),
        pytest.param([("authorization", KEYS["red"])], id="no-scheme"),
        pytest.param([("authorization", f"Basic {KEYS['red']}")], id="another-scheme"),
        pytest.param([("api-key", KEYS["red"])], id="another-header"),
        pytest.param([*RED.items(), *BLUE.items()], id="two"),
    ],
)
async def test_without_a_key_of_somebodys_nothing_is_read_or_run(
    router: RunningRouter, worker: FakeDecode, headers: list[tuple[str, str]]
) -> None:
    async with asyncio.timeout(5):
        answer = await answer_to_half_a_request(router, headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-should-retry"] == "false"
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
    assert "sk-baton" not in answer.text
    assert worker.submits == []
    metrics = (await router.http.get("/metrics")).text
    assert 'baton_router_refusals_total{model_name="bytes",reason="key"} 1.0' in metrics


@pytest.mark.parametrize(
    "path",
    ["/v1/models", "/v1/models/bytes", "/v1/responses/x", "/v1/nothing", "/v1", "//v1/models"],
)
async def test_every_path_but_the_open_ones_asks_for_a_key(
    router: RunningRouter, path: str
) -> None:
    assert (await router.http.get(f"{router.url}{path}")).status_code == 401
    with_key = await router.http.get(f"{router.url}{path}", headers=RED)
    assert with_key.status_code == (200 if path.startswith("/v1/models") else 404)


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/metrics"])
async def test_probes_scrapes_and_the_page_need_no_key(router: RunningRouter, path: str) -> None:
    assert (await router.http.get(path)).status_code == 200


@pytest.mark.parametrize("host", ["a/health?", "a/?x", "a/metrics#"])
async def test_a_host_that_looks_like_a_path_opens_nothing(
    router: RunningRouter, host: str
) -> None:
    """CVE-2026-48746: the path of a URL that was put together with it would be an open one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    writer.write(f"GET /v1/models HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
    assert (await reader.readline()).split()[1] in (b"400", b"401")
    writer.close()


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_with_a_key_the_openai_client_is_served(router: RunningRouter, stream: bool) -> None:
    client = as_tenant(router, "red")
    assert [model.id async for model in client.models.list()] == ["bytes"]
    if stream:
        chunks = await client.chat.completions.create(**BODY, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
    else:
        text = str((await client.chat.completions.create(**BODY)).choices[0].message.content)
    assert text == PARIS
    with pytest.raises(openai.AuthenticationError) as refused:
        await router.openai.chat.completions.create(**BODY)
    assert refused.value.code == "invalid_api_key"


async def test_what_tenants_cache_is_kept_apart_whatever_salt_they_send(
    router: RunningRouter, worker: FakeDecode
) -> None:
    for tenant in (RED, BLUE):
        for salt in ({}, {"cache_salt": "s"}, {"cache_salt": "t"}):
            await router.http.post(CHAT, json=BODY | salt, headers=tenant)
    salts = [bytes(submit.cache_salt) for submit in worker.submits]
    assert len(set(salts)) == 6
    assert {len(salt) for salt in salts} == {16}
    await router.http.post(CHAT, json=BODY | {"cache_salt": "t"}, headers=BLUE)
    assert worker.submits[-1].cache_salt == salts[-1]


async def test_without_keys_salts_are_the_clients_and_nobody_is_asked(worker: FakeDecode) -> None:
    async with running_router([worker]) as router:
        await router.http.post(CHAT, json=BODY, headers=RED)
        await router.http.post(CHAT, json=BODY)
        assert [submit.cache_salt for submit in worker.submits] == [b"", b""]
        assert "tenant=" not in (await router.http.get("/metrics")).text


async def test_what_tenants_use_is_counted_by_name_and_no_key_is_told(
    router: RunningRouter, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = (await router.http.post(CHAT, json=BODY, headers=RED)).json()
        await router.http.post(CHAT, json=BODY, headers=bearer("sk-baton-nobodys"))
    metrics = (await router.http.get("/metrics")).text
    for name, value in (
        ("requests_total", 1),
        ("prompt_tokens_total", answer["usage"]["prompt_tokens"]),
        ("output_tokens_total", answer["usage"]["completion_tokens"]),
        ("turn_seconds_count", 1),
    ):
        line = f'baton_router_tenant_{name}{{model_name="bytes",tenant="red"}} {value:.1f}'
        assert line in metrics.splitlines()
    told = metrics + "".join(str(vars(record)) for record in caplog.records)
    assert "'tenant': 'red'" in told
    assert "sk-baton" not in told


async def test_a_key_is_revoked_and_another_taken_by_a_change_of_the_file(
    router: RunningRouter, keys: Path
) -> None:
    async def until(key: dict[str, str], status: int) -> None:
        async with asyncio.timeout(5):
            while (await router.http.get("/v1/models", headers=key)).status_code != status:
                pass

    await until(RED, 200)
    write_register(keys, entry("red", KEYS["red"], "the next key"))
    await until(bearer("the next key"), 200)
    await until(RED, 200)
    write_register(keys, entry("red", "the next key"))
    await until(RED, 401)
    await until(bearer("the next key"), 200)


async def test_a_tenant_has_a_limit_of_its_own(router: RunningRouter, worker: FakeDecode) -> None:
    worker.script.hold_after = 0
    async with crowd(router) as people:
        people.asks("green", 2)
        await worker.until(lambda w: len(w.submits) == 2)
        refused = await router.http.post(CHAT, json=BODY, headers=GREEN)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert "Tenant green: too many requests" in refused.json()["error"]["message"]
        assert "(2, limit 2)" in refused.json()["error"]["message"]
        people.asks("red")
        await worker.until(lambda w: len(w.submits) == 3)
        worker.script.released.set()
        assert await people.statuses() == [200] * 3
        assert (await router.http.post(CHAT, json=BODY, headers=GREEN)).status_code == 200
        several = await router.http.post(CHAT, json=BODY | {"n": 3}, headers=GREEN)
        assert several.status_code == 429
    metrics = (await router.http.get("/metrics")).text
    refusals = 'baton_router_refusals_total{model_name="bytes",reason="tenant_requests"} 2.0'
    assert refusals in metrics


async def test_a_router_does_not_start_on_a_bad_file(worker: FakeDecode, tmp_path: Path) -> None:
    path = write_register(tmp_path / "keys.json", entry("RED", "x"), entry("blue", weight=0))
    with pytest.raises(ConfigError) as refused:
        async with running_router([worker], api_keys_file=path):
            pass
    assert len(refused.value.problems) == 2


async def answer_to_half_a_request(
    router: RunningRouter, headers: list[tuple[str, str]]
) -> httpx.Response:
    """Its body never comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    lines = [f"POST {CHAT} HTTP/1.1", "host: router", "content-length: 1000"]
    lines += [f"{name}: {value}" for name, value in headers]
    writer.write("\r\n".join([*lines, "", "{"]).encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    told = dict(line.split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(told["content-length"]))
    writer.close()
    return httpx.Response(int(head[0].split()[1]), headers=told, content=body)
