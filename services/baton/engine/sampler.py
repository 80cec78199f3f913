"""Chooses one token per row of logits, and reports logprobs.

Knows rows, parameters and counter-based noise; keeps no state and no generator. A drawn token is
the one whose logit and Gumbel noise sum highest, so two workers or batches whose logits differ in
the last bits agree on all but a vanishing share of draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from baton.engine.batch import SampleRequest
from baton.engine.filters import NEVER, Row, edit_row, filter_row, needs_edit
from baton.engine.models.steps import BestTokens, best_tokens
from baton.engine.noise import Noise
from baton.engine.params import TokenLogprob, TokenSample

# Tokens within a factor of e**8 of the likeliest are tried first; of all others only those whose
# noise could lift them above the best of these: some tens of 50k.
TRIED_NATS = 8.0

NOT_FINITE = "the model's logits are not finite"
NOTHING_LEFT = "the sampling parameters leave no token"


@dataclass(frozen=True, slots=True)
class RowSample:
    """The token chosen from one row, or what is wrong with the row."""

    sample: TokenSample | None = None
    error: str | None = None


def sample_rows(
    logits: torch.Tensor,
    requests: Sequence[SampleRequest],
    best: Callable[[torch.Tensor], BestTokens] = best_tokens,
) -> list[RowSample]:
    """[R, vocab] float32, one row per request -> one token, or a fault of its row, each.

    Overwrites `logits`. Logprobs are of the raw distribution, before any parameter. `best` finds
    the likeliest token of each row.
    """
    likeliest = best(logits)
    scored = [row for row, request in enumerate(requests) if request.params.logprobs is not None]
    raw = RawLogprobs(logits[scored], [requests[row].params.logprobs or 0 for row in scored])
    results = []
    for row, request in enumerate(requests):
        if not likeliest.finite[row]:
            results.append(RowSample(error=NOT_FINITE))
            continue
        token = _choose(logits[row], request, likeliest.token_ids[row])
        if token is None:
            results.append(RowSample(error=NOTHING_LEFT))
        elif request.params.logprobs is None:
            results.append(RowSample(sample=TokenSample(token)))
        else:
            results.append(RowSample(sample=raw.sample(scored.index(row), token)))
    return results


def _choose(logits: torch.Tensor, request: SampleRequest, likeliest: int) -> int | None:
    """[vocab] -> a token; None where every token is forbidden. `likeliest`: before any edit."""
    edited = needs_edit(request)
    if edited:
        edit_row(logits, request)
    row: Row = logits.numpy()
    if not request.params.greedy:
        return draw(filter_row(row, request.params), request.params.seed, request.position)
    token = int(row.argmax()) if edited else likeliest  # ties: the lowest id either way
    return token if row[token] > NEVER else None


def draw(row: Row, seed: int, position: int) -> int | None:
    """[vocab] -> the token whose logit and noise sum highest, the lowest of equals; None of none.

    Looks at few tokens' noise: one that is `x` less likely than another needs `x` more.
    """
    top = float(row.max())
    if top == NEVER:
        return None
    border = top - TRIED_NATS
    noise = Noise(seed, position, len(row))
    tried = np.flatnonzero(row >= border)
    sums = row[tried] + noise.at(tried)
    winner, highest = int(tried[sums.argmax()]), float(sums.max())
    lifted = noise.above(highest - border)
    lifted = lifted[row[lifted] < border]
    if len(lifted) == 0:
        return winner
    sums = row[lifted] + noise.at(lifted)
    rival = int(lifted[sums.argmax()])
    return min((-highest, winner), (-float(sums.max()), rival))[1]


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
