"""Chooses one token per row of logits, and reports logprobs.

Knows rows, parameters and counter-based noise; keeps no state and no generator. A drawn token is
the one whose logit and Gumbel noise sum highest, so two workers or batches whose logits differ in
the last bits agree on all but a vanishing share of draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from baton.engine.batch import SampleRequest
from baton.engine.filters import NEVER, edit_row, filter_rows, needs_edit
from baton.engine.noise import gumbel
from baton.engine.params import TokenLogprob, TokenSample

# Rows drawn at once: a row of 128k tokens takes some 3 MB of float32 and float64 temporaries.
DRAW_ROWS_MAX = 32

NOT_FINITE = "the model's logits are not finite"
NOTHING_LEFT = "the sampling parameters leave no token"


@dataclass(frozen=True, slots=True)
class RowSample:
    """The token chosen from one row, or what is wrong with the row."""

    sample: TokenSample | None = None
    error: str | None = None


def sample_rows(logits: torch.Tensor, requests: Sequence[SampleRequest]) -> list[RowSample]:
    """[R, vocab] float32, one row per request -> one token, or a fault of its row, each.

    Overwrites `logits`. Logprobs are of the raw distribution, before any parameter.
    """
    finite = finite_rows(logits)
    scored = [row for row, request in enumerate(requests) if request.params.logprobs is not None]
    raw = RawLogprobs(logits[scored], [requests[row].params.logprobs or 0 for row in scored])
    for row, request in enumerate(requests):
        if needs_edit(request):
            edit_row(logits[row], request)
    results = []
    for row, token in enumerate(_choose(logits, requests)):
        if not finite[row]:
            results.append(RowSample(error=NOT_FINITE))
        elif token is None:
            results.append(RowSample(error=NOTHING_LEFT))
        elif requests[row].params.logprobs is None:
            results.append(RowSample(sample=TokenSample(token)))
        else:
            results.append(RowSample(sample=raw.sample(scored.index(row), token)))
    return results


def _choose(logits: torch.Tensor, requests: Sequence[SampleRequest]) -> list[int | None]:
    """A token per row; None where every token is forbidden."""
    tokens: list[int | None] = [None] * len(requests)
    greedy = [row for row, request in enumerate(requests) if request.params.greedy]
    if greedy:
        best = (logits if len(greedy) == len(requests) else logits[greedy]).max(-1)
        _place(tokens, greedy, best.indices, best.values > NEVER)  # ties: max takes the lowest id
    drawn = [row for row, request in enumerate(requests) if not request.params.greedy]
    for first in range(0, len(drawn), DRAW_ROWS_MAX):
        rows = drawn[first : first + DRAW_ROWS_MAX]
        _place(tokens, rows, *_draw(logits[rows], [requests[row] for row in rows]))
    return tokens


def _place(
    tokens: list[int | None], rows: list[int], found: torch.Tensor, valid: torch.Tensor
) -> None:
    for row, token, usable in zip(rows, found.tolist(), valid.tolist(), strict=True):
        tokens[row] = token if usable else None


def _draw(
    logits: torch.Tensor, requests: Sequence[SampleRequest]
) -> tuple[torch.Tensor, torch.Tensor]:
    """[R, vocab] -> [R] token ids, and whether the row had any token to draw."""
    filtered = filter_rows(logits, [request.params for request in requests])
    noise = np.stack(
        [gumbel(request.params.seed, request.position, logits.shape[1]) for request in requests]
    )
    best = torch.from_numpy(noise).add_(filtered).max(-1)
    return best.indices, best.values > NEVER


def finite_rows(logits: torch.Tensor) -> list[bool]:
    """Whether each row [vocab] is free of NaN and infinities: either would show in its sum."""
    flags: list[bool] = torch.isfinite(logits.sum(-1)).tolist()
    return flags


class RawLogprobs:
    """The raw distribution of some rows, read after the token is known."""

    def __init__(self, logits: torch.Tensor, counts: Sequence[int]) -> None:
        """logits [R, vocab]; counts [R]: how many of the likeliest tokens each row reports."""
        self._logprobs = logits.log_softmax(-1)
        self._counts = [min(count, logits.shape[1]) for count in counts]
        best = self._logprobs.topk(max(self._counts, default=0))
        self._ids: list[list[int]] = best.indices.tolist()
        self._values: list[list[float]] = best.values.tolist()

    def sample(self, row: int, token: int) -> TokenSample:
        count = self._counts[row]
        pairs = zip(self._ids[row][:count], self._values[row][:count], strict=True)
        return TokenSample(
            token_id=token,
            logprob=float(self._logprobs[row, token]),
            top=tuple(TokenLogprob(token_id, logprob) for token_id, logprob in pairs),
        )
