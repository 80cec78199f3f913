"""A way to an address, which a fault can befall: while it is cut, connections break, and none is
made.

Knows TCP; knows no gRPC and nobody at its ends.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

START_LIMIT_S = 10.0
CHUNK_BYTES = 65_536


class Link:
    """Passes bytes between whoever connects to `address` and `target`, both HOST:PORT."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self.address = ""

    @contextmanager
    def open(self) -> Iterator[None]:
        """On a thread of its own."""
        ready = threading.Event()
        thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        thread.start()
        assert ready.wait(START_LIMIT_S), "the link does not listen"
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._stopped.set)
            thread.join(START_LIMIT_S)

    @contextmanager
    def cut(self) -> Iterator[None]:
        """While it lasts, as when a NetworkPolicy rejects what it carries."""
        self._loop.call_soon_threadsafe(self._set_cut, True)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._set_cut, False)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve(ready))
        finally:
            self._loop.close()
            asyncio.set_event_loop(None)

    async def _serve(self, ready: threading.Event) -> None:
        self._stopped = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        ready.set()
        await self._stopped.wait()
        server.close()
        self._set_cut(True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # a closed transport lets its socket go in the next turn of the loop

    def _set_cut(self, cut: bool) -> None:
        self._cut = cut
        for writer in self._writers if cut else ():
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        host, _, port = self._target.rpartition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._writers |= ends
        try:
            await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until either end is gone; then the other goes, too."""
    with suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.transport.abort()
