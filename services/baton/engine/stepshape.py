"""What a step is made of, as far as its duration depends on it. Pure.

Knows the slices of a batch; knows no seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from baton.engine.batch import BatchSlice


@dataclass(frozen=True, slots=True)
class StepShape:
    """A slice that computes one known token is decode; its guesses are rows of the same kind."""

    prefill_tokens: int = 0
    prefill_kv_tokens: int = 0  # sum, over prefill tokens, of the tokens each attends to
    decode_rows: int = 0
    kv_tokens: int = 0  # sum, over decode rows, of the tokens each attends to


def prefill_shape(tokens: int, context: int) -> StepShape:
    """`tokens` prompt tokens behind `context` others: each attends to all before it and itself."""
    return StepShape(prefill_tokens=tokens, prefill_kv_tokens=attended(tokens, context))


def decode_shape(rows: int, kv_tokens: int) -> StepShape:
    """`rows` sequences, each one token further; `kv_tokens` in the cache of all of them."""
    return StepShape(decode_rows=rows, kv_tokens=kv_tokens)


def shape_of(slices: Sequence[BatchSlice]) -> StepShape:
    """The shape of a batch."""
    prefill_tokens = prefill_kv_tokens = decode_rows = kv_tokens = 0
    for piece in slices:
        rows = len(piece.token_ids)
        if rows - piece.guesses > 1:
            prefill_tokens += rows
            prefill_kv_tokens += attended(rows, piece.start)
        else:
            decode_rows += rows
            kv_tokens += attended(rows, piece.start)
    return StepShape(prefill_tokens, prefill_kv_tokens, decode_rows, kv_tokens)


def attended(rows: int, start: int) -> int:
    """Sum of start + 1, start + 2, ... over `rows` rows."""
    return rows * start + rows * (rows + 1) // 2
