"""What a request does to its row of logits before a token is drawn: edits, then filters.

Knows logits and parameters; draws nothing. Order and meaning are vLLM's: a grammar, logit_bias,
min_tokens, repetition, frequency and presence penalty; then temperature, min_p, top_k, top_p. Where
tokens tie at the border of a filter, all stay, so the outcome never hangs on a sort's order.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from baton.engine.batch import SampleRequest
from baton.engine.params import SamplingParams

NEVER = float("-inf")
# What a filter keeps nearly always lies within a factor of e**12 of the likeliest token: some
# hundreds of 50k, found in one pass. Where it does not, all tokens are looked at.
LIKELY_NATS = 12.0

Row = NDArray[np.float32]


def needs_edit(request: SampleRequest) -> bool:
    return request.constraint is not None or request.params.edits(len(request.output))


def edit_row(row: Row, request: SampleRequest) -> None:
    """What a grammar forbids, bias, forbidden ends and penalties, in place. row: [vocab]"""
    params = request.params
    if request.constraint is not None:
        _constrain(row, request.constraint.allowed(request.output))
    # a token the model does not have needs neither bias nor ban
    for token, bias in params.logit_bias:
        if token < len(row):
            row[token] += bias
    if len(request.output) < params.min_tokens:
        ends = params.stop_token_ids + (() if params.ignore_eos else request.eos_token_ids)
        row[_ids(token for token in ends if token < len(row))] = NEVER
    if params.penalised:
        _penalise(row, params, request.prompt, request.output)


def _constrain(row: Row, allowed: bytes | None) -> None:
    """Nothing is left where `allowed` is None."""
    bits = np.unpackbits(np.frombuffer(allowed or b"", np.uint8), bitorder="little")[: len(row)]
    np.copyto(row[: len(bits)], np.float32(NEVER), where=bits == 0)
    row[len(bits) :] = NEVER


def _penalise(
    row: Row, params: SamplingParams, prompt: Sequence[int], output: Sequence[int]
) -> None:
    if params.repetition_penalty != 1.0:
        seen = np.unique(_ids(chain(prompt, output)))
        logits = row[seen]
        penalty = np.float32(params.repetition_penalty)
        row[seen] = np.where(logits > 0, logits / penalty, logits * penalty)
    if output and (params.frequency_penalty != 0.0 or params.presence_penalty != 0.0):
        used, counts = np.unique(_ids(output), return_counts=True)
        each = np.float32(params.frequency_penalty) * counts.astype(np.float32)
        row[used] -= each + np.float32(params.presence_penalty)


def _ids(token_ids: Iterable[int]) -> NDArray[np.intp]:
    return np.fromiter(token_ids, np.intp)


def filter_row(row: Row, params: SamplingParams) -> Row:
    """[vocab] -> logits divided by the temperature, -inf where a filter drops a token."""
    scaled = row / np.float32(params.temperature)
    if params.min_p > 0.0:
        _min_p(scaled, params.min_p)
    if 0 < params.top_k < len(scaled):
        _top_k(scaled, params.top_k)
    if params.top_p < 1.0:
        _top_p(scaled, params.top_p)
    return scaled


def _min_p(scaled: Row, share: float) -> None:
    """Drop tokens less likely than min_p times the likeliest."""
    _drop_below(scaled, scaled, scaled.max() + np.log(np.float32(share)))


def _top_k(scaled: Row, count: int) -> None:
    """Drop tokens less likely than the k-th likeliest."""
    _drop_below(scaled, scaled, kth_largest(scaled, count))


def kth_largest(row: Row, count: int) -> np.float32:
    """The `count`-th largest of a row that has so many."""
    likely = _at_least(row, row.max() - np.float32(LIKELY_NATS))
    if len(likely) < count:
        likely = row
    return np.float32(np.partition(likely, -count)[-count])


def _top_p(scaled: Row, mass: float) -> None:
    """Keep the fewest likeliest tokens whose probabilities sum to top_p or more."""
    probabilities = np.exp(scaled - scaled.max())
    probabilities /= probabilities.sum()
    likely = _at_least(probabilities, probabilities.max() * np.float32(math.exp(-LIKELY_NATS)))
    border = _nucleus_border(likely, mass)
    if border is None:  # sums round: even all tokens may miss a mass near 1, and then all stay
        border = _nucleus_border(probabilities, mass)
    if border is not None:
        _drop_below(scaled, probabilities, border)


def _nucleus_border(probabilities: Row, mass: float) -> np.float32 | None:
    """The least likely token's of the nucleus; None where these do not sum up to `mass`."""
    ordered = -np.sort(-probabilities)
    kept = int(np.count_nonzero(np.cumsum(ordered, dtype=np.float64) < mass)) + 1
    return np.float32(ordered[kept - 1]) if kept <= len(ordered) else None


def _drop_below(scaled: Row, measure: Row, border: np.float32) -> None:
    np.copyto(scaled, np.float32(NEVER), where=measure < border)


def _at_least(values: Row, border: np.float32) -> Row:
    # a third of the time that values[values >= border] takes
    return values.take(np.flatnonzero(values >= border))
