"""A launcher without a device: what is launched runs as late as it may, when it is collected.

Between the two anything may happen to the blocks that the step will still write. A request whose
blocks were given away too early therefore spoils somebody's KV, and `FakeRunner` finds it.
"""

from collections import deque
from dataclasses import replace

from baton.engine.batch import BatchSlice, SliceResult, StepBatch, Ticket

from support.fake_runner import FakeRunner


class FakeLauncher:
    """Launcher over a FakeRunner."""

    def __init__(self, runner: FakeRunner) -> None:
        self._runner = runner
        self._underway: deque[tuple[Ticket, StepBatch]] = deque()
        self._drawn: list[SliceResult] = []  # of the step collected last
        self._launched = 0
        self.launched_ahead = 0  # steps that were launched behind another one

    @property
    def writing(self) -> set[int]:
        """Blocks that the steps under way will write."""
        size = self._runner.block_size
        return {
            piece.block_table[position // size]
            for _, batch in self._underway
            for piece in batch.slices
            for position in range(piece.start, piece.context_length)
        }

    def run(self, batch: StepBatch) -> list[SliceResult]:
        return self.collect(self.launch(batch))

    def launch(self, batch: StepBatch) -> Ticket:
        assert len(self._underway) < 2, "a third step under way"
        self.launched_ahead += len(self._underway)
        self._launched += 1
        ticket = Ticket(self._launched)
        frozen = StepBatch(tuple(_frozen(piece) for piece in batch.slices))
        for piece in frozen.slices:
            assert (piece.follows is None) or self._underway, "it follows a step that is collected"
        self._underway.append((ticket, frozen))
        return ticket

    def collect(self, ticket: Ticket) -> list[SliceResult]:
        oldest, batch = self._underway.popleft()
        assert ticket == oldest, "collected out of order"
        batch = StepBatch(tuple(self._known(piece) for piece in batch.slices))
        self._drawn = self._runner.run(batch)
        return self._drawn

    def _known(self, piece: BatchSlice) -> BatchSlice:
        """The slice with the token that the step before drew for it."""
        if piece.follows is None:
            return piece
        token = self._drawn[piece.follows].samples[0].token_id
        sample = piece.sample
        assert sample is not None
        assert sample.drawing == 1
        sample = replace(sample, output=(*sample.output, token), drawing=0)
        return replace(piece, token_ids=(token,), sample=sample)


def _frozen(piece: BatchSlice) -> BatchSlice:
    """What the slice says now: the request's own lists go on growing."""
    sample = piece.sample
    if sample is not None:
        sample = replace(sample, output=tuple(sample.output))
    return replace(
        piece, token_ids=tuple(piece.token_ids), block_table=tuple(piece.block_table), sample=sample
    )
