"""The requests that wait for blocks: who comes first. Pure.

By priority, the lowest number first, then in order of arrival; who ran before and was preempted
goes in front of its equals. Knows requests' priorities; knows no blocks and no clock.
"""

from bisect import insort
from collections.abc import Iterator
from itertools import count

from baton.engine.request import Request

Place = tuple[int, int]
"""Priority, then the number that the line gave; no two requests have the same."""


class Line:
    def __init__(self) -> None:
        self._requests: list[tuple[Place, Request]] = []
        self._behind, self._before = count(1), count(-1, -1)

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return (request for _, request in self._requests)

    def __contains__(self, request: object) -> bool:
        return any(other is request for other in self)

    @property
    def first(self) -> Request:
        return self._requests[0][1]

    def join(self, request: Request) -> None:
        """Behind all of its priority."""
        insort(self._requests, ((request.priority, next(self._behind)), request))

    def come_back(self, request: Request) -> None:
        """In front of all of its priority: the last to be preempted is the one that ran longest."""
        insort(self._requests, ((request.priority, next(self._before)), request))

    def leave(self, request: Request) -> None:
        index = next(i for i, (_, other) in enumerate(self._requests) if other is request)
        del self._requests[index]
