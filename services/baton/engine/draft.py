"""Guesses from a small model that reads along: its own runner over the same block tables.

The draft's KV of a token lies in the block of the same number in the draft's own cache, so it needs
no pool: whoever holds a block of the target holds it here. It draws with the request's own
parameters, seed and positions, hence the same noise: where the two models nearly agree, so do the
draws. Knows requests' tokens and tables; knows no weights and no step of the target.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from baton.engine.batch import BatchSlice, Runner, SampleRequest, SliceResult, StepBatch
from baton.engine.request import Request
from baton.engine.speculation import PayingGuesser, Speculative, StepCosts


class DraftGuesser(PayingGuesser):
    """`eos_token_ids` are the target's; both models must share one vocabulary.

    `guess_share`: a draft step's cost as a share of the target's.

    `step_tokens_max`: of a draft step, at least one for every request. A long prompt must not stall
    the batch: until the draft has read it the request simply gets no guesses.
    """

    def __init__(
        self,
        runner: Runner,
        costs: Callable[[], StepCosts],
        *,
        guesses_max: int,
        guess_share: float,
        step_tokens_max: int,
        eos_token_ids: tuple[int, ...],
    ) -> None:
        super().__init__(costs, guesses_max=guesses_max, guess_share=guess_share)
        self._runner = runner
        self._step_tokens_max = step_tokens_max
        self._eos_token_ids = eos_token_ids

    def guess(self, wanted: Sequence[tuple[Speculative, int]]) -> Sequence[tuple[int, ...]]:
        """Reads what each request has said since, then draws guess after guess for all at once."""
        asked = [
            _Reading(request, count) for request, count in wanted if isinstance(request, Request)
        ]
        assert len(asked) == len(wanted), "the scheduler's requests"
        for turn in range(max((reading.wanted for reading in asked), default=0)):
            self._draw([r for r in asked if turn < r.wanted and len(r.guesses) == turn])
        return [tuple(reading.guesses) for reading in asked]

    def _draw(self, due: Sequence["_Reading"]) -> None:
        """One guess more for each request of which all is read."""
        shares = shared_out(self._step_tokens_max, [reading.unread for reading in due])
        reading = [(one, share) for one, share in zip(due, shares, strict=True) if share]
        slices = tuple(one.slice(share, self._eos_token_ids) for one, share in reading)
        results = self._runner.run(StepBatch(slices)) if slices else []
        for (one, _), piece, result in zip(reading, slices, results, strict=True):
            one.take(piece, result)


@dataclass(slots=True)
class _Reading:
    """A request as the draft knows it, and what it guesses will follow."""

    request: Request
    wanted: int  # guesses
    guesses: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        guessing = self.request.guessing
        if guessing.table is not self.request.block_table:  # new, or preempted: other blocks
            guessing.read, guessing.table = 0, self.request.block_table

    @property
    def length(self) -> int:
        return self.request.length + len(self.guesses)

    @property
    def unread(self) -> int:
        """The last known token is read in any case: its logits give the first guess."""
        return 1 if self.guesses else max(1, self.length - self.request.guessing.read)

    def slice(self, share: int, eos_token_ids: tuple[int, ...]) -> BatchSlice:
        """The next `share` tokens; the last of all asks for what follows."""
        request, start = self.request, self.length - self.unread
        tokens = self.guesses[-1:] or request.tokens(start, start + share)
        sample = None
        if share == self.unread:
            params = replace(request.params, logprobs=None)
            output = [*request.output, *self.guesses]
            sample = SampleRequest(
                params, request.prompt, output, eos_token_ids, constraint=request.constraint
            )
        return BatchSlice(request.request_id, tokens, start, request.block_table, sample)

    def take(self, piece: BatchSlice, result: SliceResult) -> None:
        if result.error is None:
            # guesses are read too, but may be wrong: only known tokens count as read
            self.request.guessing.read = min(piece.context_length, self.request.length)
        self.guesses.extend(sample.token_id for sample in result.samples)


def shared_out(total: int, wishes: Sequence[int]) -> list[int]:
    """`total` among all, the smallest wishes first: whoever is read guesses, whoever else reads."""
    shares = [0] * len(wishes)
    for index in sorted(range(len(wishes)), key=wishes.__getitem__):
        shares[index] = min(wishes[index], total)
        total -= shares[index]
    return shares
