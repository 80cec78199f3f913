"""Guesses in the plan of a step: who gets how many, where they cost nobody a block or a token of
the budget. Pure.

Knows requests, blocks and a guesser; knows neither where guesses come from nor what else is in the
step.
"""

from collections.abc import Sequence

from baton.engine.batch import SliceResult
from baton.engine.blocks import BlockPool
from baton.engine.ledger import Ledger
from baton.engine.plan import PlannedSlice, SchedulerLimits
from baton.engine.request import Request
from baton.engine.speculation import Guesser


class StepGuesses:
    def __init__(
        self, guesser: Guesser, limits: SchedulerLimits, pool: BlockPool, ledger: Ledger
    ) -> None:
        self._guesser = guesser
        self._limits = limits
        self._pool = pool
        self._ledger = ledger

    def wished(self, decoding: Sequence[Request]) -> bool:
        """Whether any of them should have guesses, for all that is known by now."""
        wishes = [self._guesser.wish(request, decoding=len(decoding)) for request in decoding]
        return any(wishes)

    def add(
        self, planned: Sequence[PlannedSlice], budget: int, *, running: int
    ) -> list[PlannedSlice]:
        """The decodes of a step with guesses, `budget` of them at most. Each of so many `running`
        requests may need a block soon, and finds one."""
        wanted: list[tuple[Request, int]] = []
        granted = 0
        for piece in planned:
            request, count = piece.request, 0
            wished = self._guesser.wish(request, decoding=len(planned)) if granted < budget else 0
            if wished:  # of most requests nothing is: this runs in every step
                left = request.params.max_tokens - len(request.output) - 1
                room = self._limits.context_length_max - request.length - 1
                most = min(wished, left, room, budget - granted)
                count = self._roomy(request, max(0, most), running)
            wanted.append((request, count))
            granted += count
        if not granted:
            return list(planned)
        guesses = self._guesser.guess(wanted)
        return [
            PlannedSlice(piece.request, piece.length, found)
            for piece, found in zip(planned, guesses, strict=True)
        ]

    def learn(self, piece: PlannedSlice, result: SliceResult) -> None:
        """How many of a slice's guesses were right."""
        guessed, accepted = len(piece.guesses), len(result.samples) - 1
        if guessed:
            self._guesser.learn(piece.request, guessed, accepted)
            self._ledger.count_guesses(guessed, accepted)

    def _roomy(self, request: Request, guesses: int, running: int) -> int:
        """How many of the guesses have a place in the KV cache without preempting anyone."""
        pool = self._pool
        lacking = pool.blocks_for(request.length + guesses) - len(request.block_table)
        spare = max(0, pool.free_count - running)
        if 0 < lacking <= spare:
            request.block_table.extend(pool.allocate(lacking))
        return min(guesses, len(request.block_table) * pool.block_size - request.length)
