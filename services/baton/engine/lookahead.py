"""Planning a step while the one before it is under way: what may be assumed, and what must wait.

A launched step's tokens are unknown until it is collected, yet nearly all that the next one needs
is certain: each request that draws goes on by one token. So the next step is planned as if no
request ended; one that did end has that step's result discarded. A request that has ended gives
its blocks back only when no launched step can write them any more. Pure: knows requests and blocks,
no device and no time.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from baton.common.errors import EngineFailure
from baton.engine.blocks import BlockPool
from baton.engine.plan import PlannedSlice
from baton.engine.request import Request

STEPS_UNDERWAY_MAX = 2
"""One whose results travel back, and the one launched behind it: more would only age the plan."""


class LookAhead:
    """The launched steps, oldest first, each with the blocks that must not be free before it
    ends."""

    def __init__(self, pool: BlockPool, context_length_max: int) -> None:
        self._pool = pool
        self._context_length_max = context_length_max
        self._steps: deque[tuple[Sequence[PlannedSlice], list[list[int]]]] = deque()
        self._places: dict[Request, int] = {}  # in the step launched last

    @property
    def idle(self) -> bool:
        """Whether no step is under way."""
        return not self._steps

    @property
    def held_tables(self) -> Iterable[Sequence[int]]:
        """Blocks of requests that have ended but may still be written."""
        return (table for _, tables in self._steps for table in tables)

    def launch(self, planned: Sequence[PlannedSlice]) -> None:
        """A step is under way from now on. Raises EngineFailure for one too many."""
        if len(self._steps) >= STEPS_UNDERWAY_MAX:
            raise EngineFailure(f"{len(self._steps)} steps are under way, and one more is launched")
        for piece in planned:
            piece.request.launched += piece.length
            piece.request.drawing += piece.samples
        self._steps.append((planned, []))
        self._places = {piece.request: index for index, piece in enumerate(planned)}

    def land(self, planned: Sequence[PlannedSlice]) -> None:
        """The oldest step has ended: what it computed is to be committed. Raises EngineFailure for
        another step."""
        if self.idle or self._steps[0][0] is not planned:
            raise EngineFailure("steps must be committed in the order they were launched")
        _, tables = self._steps.popleft()
        for piece in planned:
            piece.request.launched -= piece.length
            piece.request.drawing -= piece.samples
        for table in tables:
            self._pool.release(table)

    def release(self, request: Request) -> None:
        """Give a request's blocks back: now, or when the step that may write them has ended."""
        if request.launched:
            self._steps[-1][1].append(request.block_table)
        else:
            self._pool.release(request.block_table)
        request.block_table = []

    def goes_on(self, request: Request) -> bool:
        """Whether, for all that is certain, `request` has a next token to compute."""
        if not request.drawing:
            return True
        drawn = len(request.output) + request.drawing
        room = request.length + request.drawing < self._context_length_max
        return room and not request.export and drawn < request.params.max_tokens

    def must_wait(self, running: Sequence[Request]) -> bool:
        """Whether the next step hangs on what the one under way finds: how many guesses are right,
        a token that is chosen on the host, or a block that only preemption would free."""
        if self.idle:
            return False
        if any(piece.guesses for piece in self._steps[-1][0]):
            return True
        if any(request.drawing and drawn_on_host(request) for request in running):
            return True
        size = self._pool.block_size
        growing = sum(
            request.pending == 1
            and self.goes_on(request)
            and len(request.block_table) * size <= request.start
            for request in running
        )
        return growing > self._pool.free_count

    def slice_index(self, request: Request) -> int | None:
        """Where `request` stands in the step launched last; None where it has no part in it."""
        return None if self.idle else self._places.get(request)


def drawn_on_host(request: Request) -> bool:
    """Whether choosing its next token takes its earlier ones, or more is asked than the token."""
    params = request.params
    edited = request.constraint is not None or params.edits(len(request.output))
    return edited or params.logprobs is not None
