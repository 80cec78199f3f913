"""One request's events, kept for a coroutine that fetches them at its own pace.

Bounded by its request: an exporting one gets an event per chunk and one token. Knows the bridge's
notices; knows nothing of what they are for.
"""

import asyncio
from collections.abc import Sequence

from baton.common.errors import BatonError
from baton.engine.messages import Event
from baton.worker.loop import Notice
from baton.worker.turns import Refused


class Letterbox:
    """Implements Subscriber, and the sender's ExportEvents."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._error: BatonError | None = None
        self._filled = asyncio.Event()

    def deliver(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            if isinstance(notice, Refused):
                self._error = notice.error
            else:
                self._events.append(notice)
        self._filled.set()

    def take(self) -> Sequence[Event]:
        """All events since the last call. Raises the error of a refused request."""
        if self._error is not None:
            raise self._error
        events, self._events = self._events, []
        self._filled.clear()
        return events

    async def wait(self) -> None:
        await self._filled.wait()
