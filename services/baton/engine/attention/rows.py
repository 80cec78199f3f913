"""Flattens the slices of a step into the tensors torch's decoder reads.

Knows positions and block tables; knows no model beyond its window, and no sampling.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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


def _padded(tables: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Block tables as [S, longest]; the padding is never read."""
    padded = np.zeros((len(tables), max(map(len, tables))), dtype=np.int64)
    for row, table in enumerate(tables):
        padded[row, : len(table)] = table
    return padded
