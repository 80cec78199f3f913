"""Chooses one token per row of logits, and reports logprobs. In numpy, whoever made the logits.

Knows rows, parameters and counter-based noise; keeps no state and no generator. A drawn token is
the one whose logit and Gumbel noise sum highest, so two workers or batches whose logits differ in
the last bits agree on all but a vanishing share of draws.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from baton.engine.agreement import RowSample
from baton.engine.batch import SampleRequest
from baton.engine.failure import NOT_FINITE, NOTHING_FITS, NOTHING_LEFT
from baton.engine.filters import NEVER, Row, edit_row, filter_row, kth_largest, needs_edit
from baton.engine.models.steps import BestTokens, Rows, best_tokens
from baton.engine.noise import Noise
from baton.engine.params import TokenLogprob, TokenSample

# Tokens within a factor of e**8 of the likeliest are tried first; of all others only those whose
# noise could lift them above the best of these: some tens of 50k.
TRIED_NATS = 8.0


def sample_rows(
    logits: Rows,
    requests: Sequence[SampleRequest],
    best: BestTokens | None = None,
) -> list[RowSample]:
    """[R, vocab], one row per request -> one token, or a fault of its row, each.

    Overwrites `logits`. Logprobs are of the raw distribution, before any parameter. `best`: of
    `logits`, where it is known.
    """
    likeliest = best_tokens(logits) if best is None else best
    results = []
    for row, request in enumerate(requests):
        if not likeliest.finite[row]:
            results.append(RowSample(error=NOT_FINITE))
            continue
        count = request.params.logprobs
        raw = None if count is None else RawLogprobs(logits[row].copy(), count)
        token = _choose(logits[row], request, likeliest.token_ids[row])
        if token is None:
            free = request.constraint is None
            results.append(RowSample(error=NOTHING_LEFT if free else NOTHING_FITS))
        else:
            sample = TokenSample(token) if raw is None else raw.sample(token)
            results.append(RowSample(sample=sample))
    return results


def _choose(row: Row, request: SampleRequest, likeliest: int) -> int | None:
    """[vocab] -> a token; None where every token is forbidden. `likeliest`: before any edit."""
    edited = needs_edit(request)
    if edited:
        edit_row(row, request)
        if row.max() == NEVER:
            return None
    if not request.params.greedy:
        return draw(filter_row(row, request.params), request.params.seed, request.position)
    return int(row.argmax()) if edited else likeliest  # ties: the lowest id either way


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
    """The raw distribution of a row, read after the token is known."""

    def __init__(self, row: Row, count: int) -> None:
        """row: [vocab], finite, not to be changed; count: how many of the likeliest tokens it
        reports."""
        self._row, self._count = row, min(count, len(row))
        self._highest = row.max()
        self._mass = np.log(np.exp(row - self._highest).sum())

    def sample(self, token: int) -> TokenSample:
        best = self._likeliest() if self._count else np.empty(0, np.intp)
        pairs = zip(best.tolist(), self._logprobs(best).tolist(), strict=True)
        return TokenSample(
            token_id=token,
            logprob=float(self._logprobs(np.array([token]))[0]),
            top=tuple(TokenLogprob(token_id, logprob) for token_id, logprob in pairs),
        )

    def _logprobs(self, tokens: NDArray[np.intp]) -> Row:
        logprobs: Row = self._row[tokens] - self._highest - self._mass
        return logprobs

    def _likeliest(self) -> NDArray[np.intp]:
        """The likeliest tokens first; of equals the lowest ids."""
        found = np.flatnonzero(self._row >= kth_largest(self._row, self._count))
        order = np.argsort(-self._row[found], kind="stable")
        return found[order[: self._count]]
