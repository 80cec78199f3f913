"""The router's real application on a real uvicorn server, on a free loopback port."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import httpx
import openai
import uvicorn
from baton.common.clock import SystemClock
from baton.common.tracing import NO_TRACING, Tracing
from baton.router.app import create_router
from baton.router.discovery import ServiceFeed
from baton.router.settings import RouterSettings
from baton.router.text import TextModel
from baton.router.traffic import Traffic

from support.byte_tokenizer import byte_model


class HasAddress(Protocol):
    """A worker, of which a router is told no more."""

    @property
    def address(self) -> str: ...


@dataclass
class RunningRouter:
    url: str
    port: int
    traffic: Traffic
    openai: openai.AsyncOpenAI
    http: httpx.AsyncClient
    operations: httpx.AsyncClient  # the metrics port's application, in memory

    async def until_ready(self, workers: int = 1) -> None:
        async with asyncio.timeout(5):
            # Asked over HTTP, as everyone must: another process has no event to wait for.
            while (await self.http.get("/ready")).json()["workers"]["decode"] != workers:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running_router(
    decodes: Sequence[HasAddress],
    *,
    wait: bool = True,
    services: ServiceFeed | None = None,
    model: TextModel | None = None,
    tracing: Tracing = NO_TRACING,
    **changes: object,
) -> AsyncIterator[RunningRouter]:
    """A router over these workers; with `wait`, once it hears all of them."""
    settings = RouterSettings(
        model="none",
        model_name="bytes",
        **{  # type: ignore[arg-type]
            "decode_workers": tuple(decode.address for decode in decodes),
            "ready_wait_s": 0.2,
            **changes,
        },
    )
    traffic = Traffic()
    made = create_router(
        settings,
        model or byte_model(),
        clock=SystemClock(),
        traffic=traffic,
        services=services,
        tracing=tracing,
    )
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    config = uvicorn.Config(
        made.api, loop="none", http="httptools", ws="none", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    url = f"http://127.0.0.1:{port}"
    try:
        async with (
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
            httpx.AsyncClient(base_url=url) as http,
            httpx.AsyncClient(
                base_url="http://operations", transport=httpx.ASGITransport(made.operations)
            ) as operations,
        ):
            router = RunningRouter(url, port, traffic, client, http, operations)
            if wait:
                await router.until_ready(len(decodes))
            yield router
    finally:
        server.should_exit = True
        await serving
        listening.close()
