"""Follows EndpointSlices at the API server: list, then watch from there, for as long as asked.

The one module of the router that talks to Kubernetes; its client is imported when first needed, so
a router outside a cluster does without. Knows requests and pauses; what is in an answer is for
`slices` to know.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING

import msgspec

from baton.common.errors import ConfigError, Unavailable
from baton.router.discovery import ServiceMember
from baton.router.slices import Outcome, SliceTable

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from kubernetes.aio.client import ApiClient, Configuration

SERVICE_LABEL = "kubernetes.io/service-name"

ANSWER_LIMIT_S = 10.0
"""For a list, and for a watch to begin: an API server that is up takes milliseconds."""

WATCH_S = 120
"""The server ends a watch after this and we go on from there: a connection that died unnoticed
hides no change for much longer."""

WATCH_MARGIN_S = 10.0
"""Past the server's own limit the connection is dead."""

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 5.0
"""Endpoints are known again within seconds of the API server; its outage costs it one call in that
time per router."""

HTTP_OK, HTTP_GONE = 200, 410

EXPIRED_LINE = b'{"type":"ERROR","object":{"code":410}}'
"""What a server that begins a watch before it looks at the version says inside of it."""


class KubernetesFeed:
    """Implements ServiceFeed."""

    def __init__(self, configuration: "Configuration", jitter: random.Random) -> None:
        self._configuration = configuration
        self._jitter = jitter
        self._client: ApiClient | None = None

    async def follow(
        self, member: ServiceMember, on_trouble: Callable[[str], None]
    ) -> AsyncGenerator[frozenset[str], None]:
        table, backoff_s = SliceTable(), BACKOFF_FIRST_S
        while True:
            try:
                if not table.version:
                    table.replace(await self._list(member))
                    yield table.addresses()
                async with aclosing(self._watch(member, table.version)) as lines:
                    async for line in lines:
                        backoff_s = BACKOFF_FIRST_S
                        if table.apply(line) is Outcome.CHANGED:
                            yield table.addresses()
            except Unavailable as error:
                on_trouble(error.message)
            except msgspec.DecodeError:
                table.version = ""
                on_trouble("the API server answers what is no list of endpoints")
            # Jitter: routers must not knock in step at an API server that comes back.
            await asyncio.sleep(backoff_s * self._jitter.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.close()  # type: ignore[no-untyped-call]

    async def _list(self, member: ServiceMember) -> bytes:
        """Raises Unavailable."""
        with _told_as_unavailable():
            async with asyncio.timeout(ANSWER_LIMIT_S):
                answer = await self._ask(member)
                body = await answer.read()
        if answer.status != HTTP_OK:
            raise Unavailable(f"the API server answers {answer.status}")
        return body

    async def _watch(self, member: ServiceMember, version: str) -> AsyncGenerator[bytes, None]:
        """Lines until the server ends the watch. Raises Unavailable when it breaks."""
        give_up_s = asyncio.get_running_loop().time() + WATCH_S + WATCH_MARGIN_S
        with _told_as_unavailable():
            async with asyncio.timeout(ANSWER_LIMIT_S):
                answer = await self._ask(member, version)
        try:
            if answer.status == HTTP_GONE:
                yield EXPIRED_LINE
            elif answer.status != HTTP_OK:
                raise Unavailable(f"the API server answers {answer.status}")
            while answer.status == HTTP_OK:
                with _told_as_unavailable():
                    async with asyncio.timeout_at(give_up_s):
                        line = await answer.content.readline()
                if not line:
                    return
                yield line
        finally:
            answer.close()

    async def _ask(self, member: ServiceMember, version: str | None = None) -> "ClientResponse":
        """A list, or with `version` a watch from there."""
        from kubernetes.aio.client import ApiClient, DiscoveryV1Api

        if self._client is None:
            self._client = ApiClient(self._configuration)
        ask = DiscoveryV1Api(self._client).list_namespaced_endpoint_slice_without_preload_content
        selector = f"{SERVICE_LABEL}={member.service}"
        if version is None:
            return await ask(member.namespace, label_selector=selector)
        return await ask(
            member.namespace,
            label_selector=selector,
            watch=True,
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=WATCH_S,
        )


def in_cluster() -> "Configuration":
    """The API server as a pod sees it, with its service account, whose token is read anew as it is
    replaced. Raises ConfigError outside a cluster."""
    from kubernetes.aio.client import Configuration
    from kubernetes.aio.config import ConfigException, load_incluster_config

    configuration = Configuration()
    try:
        load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        problem = f"endpoints:// needs a pod with a service account's token: {error}"
        raise ConfigError([problem]) from error
    return configuration


@contextmanager
def _told_as_unavailable() -> Iterator[None]:
    """Whatever keeps an answer from us, as one error with a reason."""
    from aiohttp import ClientError

    try:
        yield
    except (ClientError, OSError, TimeoutError, ValueError) as error:
        # ValueError: a line longer than the client's buffer of 2 MiB.
        reason = "does not answer" if isinstance(error, TimeoutError) else type(error).__name__
        raise Unavailable(f"the API server cannot be heard: {reason}") from error
