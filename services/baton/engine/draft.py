"""Guesses from a small model that reads along: its own runner over the same block tables.

The draft's KV of a token lies in the block of the same number in the draft's own cache, so it needs
no pool: whoever holds a block of the target holds it here. It draws with the request's own
parameters, seed and positions, hence the same noise: where the two models nearly agree, so do the
draws. Knows requests' tokens and tables; knows no weights and no step of the target.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from baton.engine.batch import BatchSlice, Runner, SampleRequest, StepBatch
from baton.engine.request import Request
from baton.engine.speculation import PayingGuesser, Speculative, StepCosts

CATCH_UP_TOKENS_MAX = 256
"""Tokens of one request the draft reads per step: a long prompt must not stall the batch, and
until it is read the request simply gets no guesses."""


class DraftGuesser(PayingGuesser):
    """`eos_token_ids` are the target's; both models must share one vocabulary.

    `guess_share`: a draft step's cost as a share of the target's, such as the ratio of weights.
    """

    def __init__(
        self,
        runner: Runner,
        costs: Callable[[], StepCosts],
        *,
        guesses_max: int,
        guess_share: float,
        eos_token_ids: tuple[int, ...],
    ) -> None:
        super().__init__(costs, guesses_max=guesses_max, guess_share=guess_share)
        self._runner = runner
        self._eos_token_ids = eos_token_ids

    def guess(self, wanted: Sequence[tuple[Speculative, int]]) -> Sequence[tuple[int, ...]]:
        """Reads what each request has said since, then draws guess after guess for all at once."""
        asked = [(request, count) for request, count in wanted if isinstance(request, Request)]
        assert len(asked) == len(wanted), "the scheduler's requests"
        found: list[list[int]] = [[] for _ in asked]
        for turn in range(max((count for _, count in asked), default=0)):
            self._draw(asked, found, turn)
        return [tuple(guesses) for guesses in found]

    def _draw(
        self, asked: Sequence[tuple[Request, int]], found: Sequence[list[int]], turn: int
    ) -> None:
        """One guess more for each request that is due one."""
        due = [
            index
            for index, (_, count) in enumerate(asked)
            if turn < count and len(found[index]) == turn
        ]
        slices = [self._slice(asked[index][0], found[index]) for index in due]
        results = self._runner.run(StepBatch(tuple(slices))) if slices else []
        for index, piece, result in zip(due, slices, results, strict=True):
            request = asked[index][0]
            # Guesses are read too, but may be wrong: only known tokens count as read.
            request.guessing.read = min(piece.context_length, request.length)
            if result.samples:
                found[index].append(result.samples[0].token_id)

    def _slice(self, request: Request, guesses: Sequence[int]) -> BatchSlice:
        known = [*request.tokens(0, request.length), *guesses]
        guessing = request.guessing
        if guessing.table != request.block_table[: len(guessing.table)]:
            guessing.read = 0  # it was preempted: its blocks are others now
        guessing.table = list(request.block_table)
        # The last known token is read in any case: its logits give the first guess.
        start = len(known) - 1 if guesses else min(guessing.read, len(known) - 1)
        end = min(len(known), start + CATCH_UP_TOKENS_MAX)
        sample = None
        if end == len(known):
            params = replace(request.params, logprobs=None)
            output = [*request.output, *guesses]
            sample = SampleRequest(params, request.prompt, output, self._eos_token_ids)
        return BatchSlice(request.request_id, known[start:end], start, request.block_table, sample)
