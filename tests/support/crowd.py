"""Many requests at once to one router, each with the key of its tenant."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from support.fake_decode import FakeDecode
from support.router_process import RunningRouter
from support.tenant_files import KEYS

LONG = "x" * 90  # tokens; a quantum has room for one of these


class Crowd:
    """Requests under way, each of a tenant and told apart by the first letter of its prompt."""

    def __init__(self, router: RunningRouter, http: httpx.AsyncClient) -> None:
        self._router = router
        self._http = http
        self._asked: list[asyncio.Task[httpx.Response]] = []

    def asks(self, tenant: str, count: int = 1) -> list["asyncio.Task[httpx.Response]"]:
        body = {"model": "bytes", "prompt": tenant[0] + LONG, "max_tokens": 3}
        asking = [
            asyncio.create_task(
                self._http.post("/v1/completions", json=body, headers=bearer(KEYS[tenant]))
            )
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


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def order(worker: FakeDecode) -> str:
    """The tenants' first letters, in the order in which the worker got their requests."""
    return "".join(chr(submit.prompt_token_ids[1]) for submit in worker.submits)
