"""The updates of one request on their way from the worker's stream to whoever serves the client.

Never makes the stream wait: one slow client must not hold up the others. Its bound is the request
itself: no more tokens fit in than were asked for. Knows no gRPC.
"""

import asyncio
from collections import deque

from baton.common.errors import BatonError, EngineFailure
from baton.router.work import Update

UPDATES_WITHOUT_TOKENS_MAX = 8
"""The first and the last update may carry none; beyond this a worker is not what it says."""


class Inbox:
    """One writer, one reader."""

    def __init__(self, *, tokens_max: int) -> None:
        self._updates: deque[Update] = deque()
        self._tokens_left = tokens_max
        self._empty_left = UPDATES_WITHOUT_TOKENS_MAX
        self._error: BatonError | None = None
        self._reader: asyncio.Future[None] | None = None

    def put(self, update: Update) -> None:
        if self._error is not None:
            return
        self._tokens_left -= len(update.tokens)
        self._empty_left -= not update.tokens
        if self._tokens_left < 0 or self._empty_left < 0:
            self.fail(EngineFailure("the decode worker sent more than was asked for"))
            return
        self._updates.append(update)
        self._wake()

    def fail(self, error: BatonError) -> None:
        """The first error stays; updates that came before it are still read."""
        if self._error is None:
            self._error = error
            self._wake()

    async def get(self) -> Update:
        while not self._updates:
            if self._error is not None:
                raise self._error
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._updates.popleft()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
