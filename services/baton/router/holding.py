"""Requests that wait for a worker, first come first served.

When the fleet changes each is asked for once, in order, and load is counted as they go: nobody
overtakes, and a returning worker is not run down by all at once. How many may wait is bounded where
requests are admitted. Knows no workers; who decides is given.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

AnswerT = TypeVar("AnswerT")


class Holding(Generic[AnswerT]):
    def __init__(self, on_count: Callable[[int], None]) -> None:
        """`on_count` hears how many are held whenever that changes."""
        self._on_count = on_count
        self._waiting: dict[asyncio.Future[AnswerT], Callable[[], AnswerT | None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, ask: Callable[[], AnswerT | None], limit_s: float) -> AnswerT | None:
        """The first answer of `ask` that is not None, which is asked at every `serve`; None after
        `limit_s` seconds. What `ask` raises is raised here."""
        place: asyncio.Future[AnswerT] = asyncio.get_running_loop().create_future()
        self._waiting[place] = ask
        self._on_count(len(self))
        try:
            async with asyncio.timeout(limit_s):
                return await place
        except TimeoutError:
            return None
        finally:
            self._waiting.pop(place, None)
            self._on_count(len(self))

    def serve(self) -> None:
        """The fleet has changed: ask for everyone, in order of arrival."""
        for place, ask in list(self._waiting.items()):
            if place.done():
                continue
            try:
                answer = ask()
            except Exception as error:
                place.set_exception(error)
                continue
            if answer is not None:
                place.set_result(answer)
