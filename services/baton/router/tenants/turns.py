"""Whose turn it is: deficit round robin over tenants, what is most urgent first within each. Pure.

Each visit adds a quantum of prompt tokens, times the weight, to what a tenant may send; a piece of
work that has more waits for the next visits. Whoever has nothing waiting is not visited, and keeps
nothing. Knows no clock, and not what a piece of work is.
"""

from bisect import insort
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import Generic, TypeVar

from baton.router.fleet import Fleet

QUANTUM_TOKENS = 128
"""The prompt tokens of an engine step, unless told: turns change about as often as steps do. A
prompt of a million tokens takes some 8,000 visits, which is little beside reading it."""

PIECES_PER_WORKER = 4
"""Pieces of work that are out without a first token, for each worker. One is computed; it takes
some milliseconds to be told of its token and for the next one to arrive, about a step of a small
model, and several short prompts fit into a step. Whatever is out has left the line: more would only
wait in a worker's, first come first served."""

PieceT = TypeVar("PieceT", bound=Hashable)


def pieces_out_max(fleet: Fleet) -> int:
    """How much may be out now. Without a worker as with one: somebody has to be held, for the
    operator to start workers and for those that come to find work."""
    return PIECES_PER_WORKER * max(1, sum(view.ready for view in fleet.workers))


@dataclass(frozen=True, slots=True, order=True)
class Urgency:
    """The lowest comes first; equals in order of arrival."""

    priority: int = 0
    due_s: float = inf  # when it is wanted, on any one clock


@dataclass(slots=True)
class _Lane(Generic[PieceT]):
    """One tenant that waits."""

    weight: int
    deficit: int = 0  # prompt tokens it may send yet
    visited: bool = False  # is being visited, and has had its quantum
    prompt_tokens: dict[PieceT, int] = field(default_factory=dict)
    order: list[tuple[Urgency, int, PieceT]] = field(default_factory=list)  # numbered by arrival


class Turns(Generic[PieceT]):
    def __init__(self) -> None:
        self._lanes: OrderedDict[str, _Lane[PieceT]] = OrderedDict()  # the next to be visited first
        self._arrivals = count()

    def waiting(self, tenant: str) -> int:
        lane = self._lanes.get(tenant)
        return 0 if lane is None else len(lane.order)

    def join(
        self,
        piece: PieceT,
        tenant: str,
        weight: int,
        prompt_tokens: int,
        urgency: Urgency = Urgency(),
    ) -> None:
        """`weight`: of all that the tenant has waiting, from now on. An empty prompt counts as a
        token: a visit has to end."""
        lane = self._lanes.setdefault(tenant, _Lane(weight))
        lane.weight = weight
        lane.prompt_tokens[piece] = max(1, prompt_tokens)
        insort(lane.order, (urgency, next(self._arrivals), piece))

    def leave(self, piece: PieceT, tenant: str) -> None:
        """It does not want its turn any more."""
        lane = self._lanes[tenant]
        del lane.prompt_tokens[piece]
        lane.order = [place for place in lane.order if place[2] != piece]
        if not lane.order:
            del self._lanes[tenant]  # and with it what it had saved up

    def next(self) -> PieceT | None:
        """Whose turn it is, out of the line with that; None: nobody waits."""
        while self._lanes:
            tenant, lane = next(iter(self._lanes.items()))
            if not lane.visited:
                lane.visited = True
                lane.deficit += QUANTUM_TOKENS * lane.weight
            piece = lane.order[0][2]
            if lane.prompt_tokens[piece] <= lane.deficit:
                lane.deficit -= lane.prompt_tokens[piece]
                self.leave(piece, tenant)
                return piece
            lane.visited = False
            self._lanes.move_to_end(tenant)
        return None
