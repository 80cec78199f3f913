"""What the runner asks of a decoder, whoever computes it: slices in, hidden rows and logits out.

Rows are numpy arrays on every path: of torch's they are views.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from baton.engine.batch import BatchSlice
from baton.engine.kvcache import PagedKvCache
from baton.model.config import ModelConfig

Rows = NDArray[np.float32]


class StepTime(NamedTuple):
    """Where the time of steps went. Seconds."""

    linear_s: float  # the head's included
    attention_s: float
    rest_s: float


class BestTokens(NamedTuple):
    """What some rows of logits are at a glance."""

    token_ids: Sequence[int]  # the likeliest token of each row, the lowest of equals
    finite: Sequence[int]  # not zero: whether the row is free of NaN and infinities


class StepRows(NamedTuple):
    """What a step computed: the rows of its slices after the final norm, and the logits of those
    that a token is drawn from."""

    hidden: Rows  # [T, hidden]
    firsts: Sequence[int]  # the first row of each slice, in the order of the batch
    logits: Rows  # [D, vocab], as `drawn_rows` orders them
    best: BestTokens  # of the logits


def drawn_rows(slices: Sequence[BatchSlice], firsts: Sequence[int]) -> list[int]:
    """The rows that tokens are drawn from: the last ones of each slice that draws, in its order.
    `firsts`: the first row of each slice."""
    return [
        row
        for first, piece in zip(firsts, slices, strict=True)
        for row in range(first + len(piece.token_ids) - piece.draws, first + len(piece.token_ids))
    ]


def best_tokens(logits: Rows) -> BestTokens:
    """[R, vocab], in numpy."""
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(logits.sum(-1))  # NaN or an infinity would show in its sum
    return BestTokens(logits.argmax(-1).tolist(), finite.tolist())


class StepModel(Protocol):
    """A decoder of any family, with its weights."""

    @property
    def config(self) -> ModelConfig: ...

    def compute(
        self, slices: Sequence[BatchSlice], cache: PagedKvCache, *, stands_back: bool = False
    ) -> StepRows:
        """Writes the slices' KV into the cache; their own rows and earlier ones are read. The rows
        are the caller's until the next call. `stands_back`: others on these cores come first."""
        ...

    def logits(self, hidden: Rows) -> Rows:
        """Final hidden rows [R, hidden] -> [R, vocab], the caller's until the next call of either
        method."""
        ...
