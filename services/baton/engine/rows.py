"""Flattens the slices of a step into the arrays that the kernels read.

Knows positions and block tables; knows no model and no sampling. Between two steps of a lone
request this is much of what Python does, on cold caches: hence plain arrays, made without numpy.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from baton.engine.batch import BatchSlice
from baton.engine.models.steps import drawn_rows

Ints: TypeAlias = "array[int]"
"""Of 32 bits each."""


@dataclass(frozen=True, slots=True)
class FlatRows:
    """A step as the kernels read it: flat arrays, in the order of the batch."""

    tokens: Ints  # [T]
    starts: Ints  # [S] tokens in the cache before the step
    lengths: Ints  # [S] rows of the step
    tables: Ints  # block tables, one after the other
    table_offsets: Ints  # [S] where each table begins
    draws: Ints  # [D] rows that tokens are drawn from
    firsts: Sequence[int]  # [S] first row of each slice

    @property
    def kv_tokens(self) -> int:
        """Tokens in the cache after the step, of all its sequences."""
        return sum(self.starts) + len(self.tokens)

    def covered(self, block_size: int) -> bool:
        """Whether every table holds all positions of its slice."""
        ends = [*self.table_offsets[1:], len(self.tables)]
        spans = zip(self.starts, self.lengths, self.table_offsets, ends, strict=True)
        return all(start + rows <= (end - first) * block_size for start, rows, first, end in spans)


def flat_rows(slices: Sequence[BatchSlice]) -> FlatRows:
    """Raises OverflowError for numbers of more than 32 bits."""
    tokens: list[int] = []
    tables: list[int] = []
    firsts, offsets = [], []
    for piece in slices:
        firsts.append(len(tokens))
        offsets.append(len(tables))
        tokens.extend(piece.token_ids)
        tables.extend(piece.block_table)
    return FlatRows(
        tokens=ints(tokens),
        starts=ints([piece.start for piece in slices]),
        lengths=ints([len(piece.token_ids) for piece in slices]),
        tables=ints(tables),
        table_offsets=ints(offsets),
        draws=ints(drawn_rows(slices, firsts)),
        firsts=firsts,
    )


def ints(values: Iterable[int]) -> Ints:
    return array("i", values)


def address(numbers: Ints) -> int:
    """Of the first one, for as long as the array lives."""
    return numbers.buffer_info()[0]
