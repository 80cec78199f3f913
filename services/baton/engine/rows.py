"""Flattens the slices of a step into the arrays that the kernels read.

Knows positions and block tables; knows no model and no sampling.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from baton.engine.batch import BatchSlice


@dataclass(frozen=True, slots=True)
class FlatRows:
    """A step as the kernels read it: flat arrays, in the order of the batch."""

    tokens: NDArray[np.int32]  # [T]
    starts: NDArray[np.int32]  # [S] tokens in the cache before the step
    lengths: NDArray[np.int32]  # [S] rows of the step
    tables: NDArray[np.int32]  # block tables, one after the other
    table_offsets: NDArray[np.int32]  # [S] where each table begins
    table_lengths: NDArray[np.int32]  # [S] in blocks
    firsts: Sequence[int]  # [S] first row of each slice

    def covered(self, block_size: int) -> bool:
        """Whether every table holds all positions of its slice."""
        return bool((self.starts + self.lengths <= self.table_lengths * block_size).all())


def flat_rows(slices: Sequence[BatchSlice]) -> FlatRows:
    """Costs some tens of microseconds: no masks, no indices per key."""
    lengths = [len(piece.token_ids) for piece in slices]
    table_lengths = _ints(len(piece.block_table) for piece in slices)
    ends = np.cumsum(lengths, dtype=np.int64)
    return FlatRows(
        tokens=_ints(chain.from_iterable(piece.token_ids for piece in slices)),
        starts=_ints(piece.start for piece in slices),
        lengths=_ints(lengths),
        tables=_ints(chain.from_iterable(piece.block_table for piece in slices)),
        table_offsets=(np.cumsum(table_lengths) - table_lengths).astype(np.int32),
        table_lengths=table_lengths,
        firsts=(ends - lengths).tolist(),
    )


def _ints(values: Iterable[int]) -> NDArray[np.int32]:
    return np.fromiter(values, np.int32)
