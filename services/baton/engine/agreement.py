"""What to draw for a slice that holds guesses, and how many of the draws count. Pure.

Every runner samples by these rules, whatever computes; they know neither logits nor tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from baton.engine.batch import BatchSlice, SampleRequest
from baton.engine.params import TokenSample


@dataclass(frozen=True, slots=True)
class RowSample:
    """The token chosen from one row, or what is wrong with the row."""

    sample: TokenSample | None = None
    error: str | None = None


def wanted_draws(piece: BatchSlice) -> list[SampleRequest]:
    """What to draw for a slice that draws: after its last known token, and after each guess."""
    if piece.sample is None:
        return []
    if not piece.guesses:
        return [piece.sample]
    guesses = piece.token_ids[len(piece.token_ids) - piece.guesses :]
    output = list(piece.sample.output)
    return [
        replace(piece.sample, output=[*output, *guesses[:count]])
        for count in range(piece.guesses + 1)
    ]


def agreed(
    piece: BatchSlice, drawn: Sequence[RowSample]
) -> tuple[str | None, tuple[TokenSample, ...]]:
    """The drawn tokens as far as they follow from right guesses; the error of the first row."""
    guesses = piece.token_ids[len(piece.token_ids) - piece.guesses :]
    samples: list[TokenSample] = []
    for row, guess in zip_longest(drawn, guesses):
        if row.sample is None:
            break
        samples.append(row.sample)
        if row.sample.token_id != guess:
            break
    return (None if samples else drawn[0].error), tuple(samples)
