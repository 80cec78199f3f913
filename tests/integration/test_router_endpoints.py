"""Endpoints of a Service, followed at an API server that comes and goes."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from baton.common.errors import ConfigError
from baton.router.discovery import ServiceMember
from baton.router.kube_feed import KubernetesFeed, in_cluster
from kubernetes.aio.client import Configuration
from support.fake_api_server import FakeApiServer, running
from support.fake_decode import PARIS, FakeDecode
from support.router_process import running_router

DECODES = ServiceMember("ns", "decodes", 7000)
LIMIT_S = 20.0


class Following:
    """What a feed tells: the last addresses, and all troubles."""

    def __init__(self, feed: KubernetesFeed) -> None:
        self.feed = feed
        self.addresses: frozenset[str] | None = None
        self.troubles: list[str] = []
        self._news = asyncio.Condition()

    async def follow(self) -> None:
        async with aclosing(self.feed.follow(DECODES, self.troubles.append)) as news:
            async for addresses in news:
                async with self._news:
                    self.addresses = addresses
                    self._news.notify_all()

    async def until(self, *addresses: str) -> None:
        async with asyncio.timeout(LIMIT_S), self._news:
            await self._news.wait_for(lambda: self.addresses == set(addresses))


def feed_of(server: FakeApiServer) -> KubernetesFeed:
    host = f"http://127.0.0.1:{server.port}"
    return KubernetesFeed(Configuration(host=host), random.Random(0))


@asynccontextmanager
async def following(server: FakeApiServer) -> AsyncIterator[Following]:
    told = Following(feed_of(server))
    task = asyncio.create_task(told.follow())
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.wait({task})
        await told.feed.aclose()
        assert task.cancelled(), task.exception()


async def test_changes_arrive_by_watch_after_one_list() -> None:
    async with running(FakeApiServer()) as server, following(server) as told:
        await told.until()
        await server.has("s", "10.0.0.1")
        await told.until("10.0.0.1")
        await server.has("t", "10.0.0.2", "10.0.0.3")
        await told.until("10.0.0.1", "10.0.0.2", "10.0.0.3")
        await server.has("s")
        await told.until("10.0.0.2", "10.0.0.3")
        assert (server.lists, len(server.watched_from), told.troubles) == (1, 1, [])


async def test_a_cut_watch_goes_on_from_the_last_version_bookmarks_included() -> None:
    async with running(FakeApiServer()) as server, following(server) as told:
        await server.has("s", "10.0.0.1")
        await told.until("10.0.0.1")
        await server.has("t", "10.0.0.2")
        await server.bookmark()
        await server.has("t", "10.0.0.3")
        await told.until("10.0.0.1", "10.0.0.3")
        before = server.version
        server.cut()
        await server.until(lambda s: len(s.watched_from) == 2)
        assert server.watched_from[-1] == str(before)
        await server.has("s")
        await told.until("10.0.0.3")
        assert server.lists == 1


@pytest.mark.parametrize("in_the_stream", [True, False], ids=["an-event", "a-status"])
async def test_a_version_that_is_too_old_leads_to_a_new_list(in_the_stream: bool) -> None:
    async with running(FakeApiServer()) as server, following(server) as told:
        server.gone_in_the_stream = in_the_stream
        await server.has("s", "10.0.0.1")
        await told.until("10.0.0.1")
        server.forget()
        await server.until(lambda s: s.lists == 2)
        await server.has("s", "10.0.0.2")
        await told.until("10.0.0.2")


async def test_an_outage_takes_nobody_away_and_what_changed_in_it_is_learned_after() -> None:
    server = FakeApiServer()
    async with running(server):
        pass  # so that there is an address to try
    async with following(server) as told:
        async with running(server):
            await server.has("s", "10.0.0.1")
            await told.until("10.0.0.1")
        await server.has("s", "10.0.0.2")
        await server.until(lambda _: bool(told.troubles))
        assert told.addresses == {"10.0.0.1"}
        async with running(server):
            await told.until("10.0.0.2")


async def test_without_an_api_server_it_is_told_why_and_tried_until_there_is_one() -> None:
    server = FakeApiServer()
    async with running(server):
        pass
    async with following(server) as told:
        await server.until(lambda _: bool(told.troubles))
        assert "cannot be heard" in told.troubles[0]
        await server.has("s", "10.0.0.1")
        async with running(server):
            await told.until("10.0.0.1")


async def test_a_forbidden_list_is_told_as_such() -> None:
    server = FakeApiServer()
    server.status = 403
    async with running(server), following(server) as told:
        await server.until(lambda _: bool(told.troubles))
        assert told.troubles[0] == "the API server answers 403"
        server.status = 200
        await told.until()


async def test_outside_a_cluster_there_is_nothing_to_follow() -> None:
    with pytest.raises(ConfigError, match="service account"):
        in_cluster()


async def test_the_router_serves_on_through_an_outage_of_the_api_server() -> None:
    server = FakeApiServer()
    async with FakeDecode() as worker:
        host, port = worker.address.split(":")
        async with running(server):
            await server.has("s", host)
            feed = feed_of(server)
        decodes = (f"endpoints://ns/decodes:{port}",)
        async with running_router([], services=feed, decode_workers=decodes) as router:
            told = await router.operations.get("/ready")
            assert told.status_code == 503
            assert told.json()["status"].startswith("endpoints of ns/decodes: ")
            async with running(server):
                await router.until_ready(1)
            answer = await router.openai.completions.create(model="bytes", prompt="x")
            assert answer.choices[0].text.startswith(PARIS[:5])
            assert (await router.operations.get("/ready")).status_code == 200
