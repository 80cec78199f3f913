"""API keys, tenants and turns, on the real router and over HTTP: who is let in, what is kept apart,
and that nobody's flood is another's wait."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from baton.common.errors import ConfigError
from baton.router.tenants.turns import PIECES_PER_WORKER
from baton.rpc.v1 import decode_pb2
from support.fake_decode import PARIS, READY, STARTING, FakeDecode, Script
from support.router_process import RunningRouter, running_router
from support.tenant_files import KEYS, entry, write_register

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
USER: Any = [{"role": "user", "content": "hi"}]
BODY: dict[str, Any] = {"model": "bytes", "messages": USER}
LONG = "x" * 90  # tokens; a quantum has room for one of these


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


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


class Crowd:
    """Requests under way, each of a tenant and told apart by the first letter of its prompt."""

    def __init__(self, router: RunningRouter, http: httpx.AsyncClient) -> None:
        self._router = router
        self._http = http
        self._asked: list[asyncio.Task[httpx.Response]] = []

    def asks(self, tenant: str, count: int = 1) -> list["asyncio.Task[httpx.Response]"]:
        body = {"model": "bytes", "prompt": tenant[0] + LONG, "max_tokens": 3}
        asking = [
            asyncio.create_task(self._http.post(TEXT, json=body, headers=bearer(KEYS[tenant])))
            for _ in range(count)
        ]
        self._asked += asking
        return asking

    async def until_waiting(self, count: int) -> None:
        async with asyncio.timeout(5):
            while await self._waiting() != count:  # noqa: ASYNC110 (asked over HTTP, as by others)
                await asyncio.sleep(0)

    async def _waiting(self) -> int:
        signals = (await self._router.operations.get("/signals")).json()
        return int(signals["traffic"]["requests_waiting"])

    async def statuses(self) -> list[int]:
        return sorted(answer.status_code for answer in await asyncio.gather(*self._asked))


@asynccontextmanager
async def crowd(router: RunningRouter) -> AsyncIterator[Crowd]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=router.url, limits=limits, timeout=20) as http:
        yield Crowd(router, http)


def order(worker: FakeDecode) -> str:
    """The tenants' first letters, in the order in which the worker got their requests."""
    return "".join(chr(submit.prompt_token_ids[1]) for submit in worker.submits)


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


async def test_a_flood_of_one_tenant_costs_another_no_more_than_its_turn(
    router: RunningRouter, worker: FakeDecode
) -> None:
    worker.script.hold_after = 0
    async with crowd(router) as people:
        people.asks("red", 20)
        await people.until_waiting(20 - PIECES_PER_WORKER)
        people.asks("blue", 2)
        await people.until_waiting(22 - PIECES_PER_WORKER)
        await worker.until(lambda w: order(w) == "r" * PIECES_PER_WORKER)
        worker.script.released.set()
        assert await people.statuses() == [200] * 22
    after = order(worker)[PIECES_PER_WORKER:]
    assert after.count("b") == 2
    assert "b" in after[:2]
    assert after.rindex("b") <= 4


async def test_clients_that_go_away_leave_the_line_and_free_their_turns(
    router: RunningRouter, worker: FakeDecode
) -> None:
    worker.script.hold_after = 0
    async with crowd(router) as people:
        out = people.asks("red", PIECES_PER_WORKER)
        await worker.until(lambda w: len(w.submits) == PIECES_PER_WORKER)
        [waiting] = people.asks("red")
        people.asks("blue", 2)
        await people.until_waiting(3)
        waiting.cancel()
        await people.until_waiting(2)
        out[0].cancel()
        out[1].cancel()
        await worker.until(lambda w: order(w) == "r" * PIECES_PER_WORKER + "bb")
        worker.script.released.set()
    await until_served(router)


async def test_a_request_in_line_ends_at_its_deadline(worker: FakeDecode, keys: Path) -> None:
    worker.script.silent = True
    async with (
        running_router([worker], api_keys_file=keys, request_timeout_s=0.3) as router,
        crowd(router) as people,
    ):
        asked = people.asks("red", PIECES_PER_WORKER + 3)
        assert await people.statuses() == [504] * (PIECES_PER_WORKER + 3)
        assert {answer.result().json()["error"]["code"] for answer in asked} == {
            "deadline_exceeded"
        }
        await people.until_waiting(0)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(Script(fail_after=0), id="a-failed-step"),
        pytest.param(Script(break_after=0), id="a-broken-stream"),
        pytest.param(
            Script(refuse=decode_pb2.RequestError(code="overloaded", message="", retryable=True)),
            id="refused",
        ),
    ],
)
async def test_what_fails_frees_its_turn(script: Script, keys: Path) -> None:
    async with (
        FakeDecode(script) as worker,
        running_router([worker], api_keys_file=keys) as router,
        crowd(router) as people,
    ):
        people.asks("red", 3 * PIECES_PER_WORKER)
        assert all(status >= 400 for status in await people.statuses())
        worker.script = Script()
        await router.until_ready()
        await until_served(router)


async def test_a_request_that_lost_its_worker_does_not_wait_again(keys: Path) -> None:
    each = PIECES_PER_WORKER
    async with (
        FakeDecode(Script(hold_after=0)) as dying,
        FakeDecode(Script(hold_after=0)) as other,
        running_router([dying, other], api_keys_file=keys) as router,
        crowd(router) as people,
    ):
        people.asks("red", 3 * each)
        await dying.until(lambda w: len(w.submits) == each)
        await other.until(lambda w: len(w.submits) == each)
        await people.until_waiting(each)
        await dying.kill()
        await other.until(lambda w: len(w.submits) == 2 * each)
        other.script.released.set()
        assert await people.statuses() == [200] * 3 * each
        await until_served(router)


async def test_without_a_worker_all_are_waiting_demand_and_none_waits_longer_than_held(
    worker: FakeDecode, keys: Path
) -> None:
    count = 5 * PIECES_PER_WORKER
    await worker.become(STARTING)
    async with (
        running_router([worker], wait=False, api_keys_file=keys, ready_wait_s=1.0) as router,
        crowd(router) as people,
    ):
        people.asks("red", count)
        await people.until_waiting(count)
        async with asyncio.timeout(2.5):  # one after another they would take five seconds
            assert await people.statuses() == [503] * count


async def test_who_waited_for_a_worker_goes_in_turn_when_one_comes(
    worker: FakeDecode, keys: Path
) -> None:
    await worker.become(STARTING)
    async with (
        running_router([worker], wait=False, api_keys_file=keys, scale_from_zero=True) as router,
        crowd(router) as people,
    ):
        people.asks("red", 10)
        await people.until_waiting(10)
        people.asks("blue")
        await people.until_waiting(11)
        await worker.become(READY)
        assert await people.statuses() == [200] * 11
    assert order(worker).index("b") <= PIECES_PER_WORKER + 1


async def test_a_router_does_not_start_on_a_bad_file(worker: FakeDecode, tmp_path: Path) -> None:
    path = write_register(tmp_path / "keys.json", entry("RED", "x"), entry("blue", weight=0))
    with pytest.raises(ConfigError) as refused:
        async with running_router([worker], api_keys_file=path):
            pass
    assert len(refused.value.problems) == 2


async def until_served(router: RunningRouter) -> None:
    """More requests than could be out, at once: no turn has been lost."""
    async with crowd(router) as people, asyncio.timeout(5):
        people.asks("blue", 3 * PIECES_PER_WORKER)
        assert await people.statuses() == [200] * 3 * PIECES_PER_WORKER
        await people.until_waiting(0)


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
