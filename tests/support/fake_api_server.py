"""An API server that knows EndpointSlices: list and watch over real HTTP, and every way to fail.

Versions count up with each change; a watch begins after the version it names, or is told 410 when
that is too old.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

PATH = "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices"
SERVICE = "kubernetes.io/service-name=decodes"


class FakeApiServer:
    """Use with `running`; `port` stays when it stops and starts again."""

    def __init__(self) -> None:
        self.port = 0
        self.lists = 0
        self.watched_from: list[str] = []
        self.oldest = 0  # versions below are forgotten
        self.status = 200  # of every answer
        self.gone_in_the_stream = True  # else a 410 is the answer's status
        self._slices: dict[str, dict[str, Any]] = {}
        self._events: list[tuple[int, dict[str, Any]]] = []
        self._version = 1
        self._changed = asyncio.Condition()
        self._streams: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def version(self) -> int:
        return self._version

    async def has(self, name: str, *addresses: str) -> None:
        """The slice `name` now stands for these addresses; without any it is deleted."""
        kind = "MODIFIED" if name in self._slices else "ADDED"
        self._version += 1
        told: dict[str, Any] = {
            "kind": "EndpointSlice",
            "metadata": {"name": name, "resourceVersion": str(self._version)},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [one], "conditions": {}} for one in addresses],
        }
        self._slices[name] = told
        if not addresses:
            kind = "DELETED"
            del self._slices[name]
        await self._tell({"type": kind, "object": told})

    async def bookmark(self) -> None:
        self._version += 1
        metadata = {"resourceVersion": str(self._version)}
        await self._tell({"type": "BOOKMARK", "object": {"metadata": metadata}})

    def forget(self) -> None:
        """Versions up to now are too old to watch from; open watches are cut."""
        self._version += 1
        self.oldest = self._version
        self.cut()

    def cut(self) -> None:
        """Break every open connection."""
        for writer in list(self._streams):
            writer.transport.abort()

    async def until(self, condition: Callable[["FakeApiServer"], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition(self):  # noqa: ASYNC110 (asked of both sides)
                await asyncio.sleep(0.01)

    async def _tell(self, event: dict[str, Any]) -> None:
        async with self._changed:
            self._events.append((self._version, event))
            self._changed.notify_all()

    async def _note(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams.add(writer)
        try:
            while request := await reader.readline():
                while (await reader.readline()).strip():
                    pass
                await self._answer(request.split()[1].decode(), writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._streams.discard(writer)
            writer.close()

    async def _answer(self, target: str, writer: asyncio.StreamWriter) -> None:
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        assert url.path == PATH, url.path
        assert query["labelSelector"] == SERVICE
        if self.status != 200:
            await _whole(writer, self.status, {"kind": "Status", "code": self.status})
        elif "watch" in query:
            await self._watch(query, writer)
        else:
            self.lists += 1
            metadata = {"resourceVersion": str(self._version)}
            items = list(self._slices.values())
            await _whole(writer, 200, {"metadata": metadata, "items": items})
            await self._note()

    async def _watch(self, query: dict[str, str], writer: asyncio.StreamWriter) -> None:
        told = int(query["resourceVersion"])
        assert query["allowWatchBookmarks"].lower() == "true"
        self.watched_from.append(query["resourceVersion"])
        expired = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
        if told < self.oldest and not self.gone_in_the_stream:
            await _whole(writer, 410, expired)
            return
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await self._note()
        if told < self.oldest:
            await _chunk(writer, {"type": "ERROR", "object": expired})
        while told >= self.oldest:
            for version, event in [one for one in self._events if one[0] > told]:
                await _chunk(writer, event)
                told = version
            async with self._changed:
                await self._changed.wait_for(
                    lambda told=told: self._version > told or writer.is_closing()
                )
            if writer.is_closing():
                return
        writer.write(b"0\r\n\r\n")


async def _whole(writer: asyncio.StreamWriter, status: int, body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    writer.write(
        b"HTTP/1.1 %d Told\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (status, len(text), text)
    )
    await writer.drain()


async def _chunk(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    line = json.dumps(event).encode() + b"\n"
    writer.write(b"%x\r\n%b\r\n" % (len(line), line))
    await writer.drain()


@asynccontextmanager
async def running(server: FakeApiServer) -> AsyncIterator[FakeApiServer]:
    """Serves while inside; leaving is an outage."""
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await server.serve(reader, writer)
        finally:
            connections.discard(task)

    listening = await asyncio.start_server(connected, "127.0.0.1", server.port)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        server.cut()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
