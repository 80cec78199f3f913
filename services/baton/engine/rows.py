"""Flattens the slices of a step into the tensors one forward pass reads.

Knows positions and block tables; knows no model beyond its window, and no sampling.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from baton.engine.attention.plan import AttentionPlan, Sequences, plan_attention
from baton.engine.batch import BatchSlice


@dataclass(frozen=True, slots=True)
class Rows:
    """A step as tensors, its slices in an order that suits attention."""

    tokens: torch.Tensor  # [T]
    positions: torch.Tensor  # [T]
    plan: AttentionPlan
    firsts: tuple[int, ...]  # the first row of each slice, in the order of the batch


def flatten(slices: Sequence[BatchSlice], *, block_size: int, window: int | None) -> Rows:
    """`window`: of the model's sliding layers, if it has any."""
    # one-row slices first, longest context first: attention gathers ranges of rows of like length
    order = sorted(
        range(len(slices)),
        key=lambda index: (len(slices[index].token_ids) > 1, -slices[index].context_length),
    )
    ordered = [slices[index] for index in order]
    starts = np.array([piece.start for piece in ordered], dtype=np.int64)
    lengths = np.array([len(piece.token_ids) for piece in ordered], dtype=np.int64)
    firsts = np.cumsum(lengths) - lengths
    in_batch_order = np.empty_like(firsts)
    in_batch_order[order] = firsts
    offsets = np.arange(lengths.sum()) - np.repeat(firsts, lengths)
    tokens = np.concatenate([np.asarray(p.token_ids, dtype=np.int64) for p in ordered])
    tables = _padded([piece.block_table for piece in ordered])
    return Rows(
        tokens=torch.from_numpy(tokens),
        positions=torch.from_numpy(np.repeat(starts, lengths) + offsets),
        plan=plan_attention(
            Sequences(starts, lengths, tables), block_size=block_size, window=window
        ),
        firsts=tuple(in_batch_order.tolist()),
    )


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


def _padded(tables: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Block tables as [S, longest]; the padding is never read."""
    padded = np.zeros((len(tables), max(map(len, tables))), dtype=np.int64)
    for row, table in enumerate(tables):
        padded[row, : len(table)] = table
    return padded
