"""What attention needs to know about a step, worked out once and used by every layer.

Knows positions, block tables and windows; knows no keys, no values and no model.
A row reads only slots of its own sequence: where rows of unlike length are gathered together, the
short ones are padded with their own last token and masked, so nothing foreign or stale leaks in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

# Decode rows are gathered together while the shortest context is at least half the longest (so at
# most half of the work is padding); contexts this short are not worth a call of their own.
GROUP_SPREAD_TOKENS = 256
# Bounds what one gather copies: 32k tokens of 8 heads of 128 float32 values are 128 MiB.
GROUP_TOKENS_MAX = 32_768

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Span:
    """Rows `first` .. `end` - 1 of the step that attend in one call."""

    first: int
    end: int
    # decode: [rows, L], one sequence per row; prefill: [L], all rows of one sequence
    slots: torch.Tensor
    # added to the scores; decode [rows, 1, 1, L], prefill [rows, L]; None: every slot is seen
    mask: torch.Tensor | None
    causal: bool = False  # row i sees slots 0 .. i; then there is no mask


@dataclass(frozen=True, slots=True)
class View:
    """All rows of a step, as one kind of layer sees them."""

    decode: tuple[Span, ...]
    prefill: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    write_slots: torch.Tensor  # [T] where each row's key and value go
    full: View
    windowed: View | None  # of layers with a sliding window, where the model has some


@dataclass(frozen=True, slots=True)
class Sequences:
    """The step's sequences in row order: those with one row first, longest context first."""

    starts: Index  # [S] tokens in the cache before the step
    lengths: Index  # [S] rows of the step
    tables: Index  # [S, blocks] padded with any block id

    @property
    def contexts(self) -> Index:
        """[S] tokens in the cache after the step."""
        contexts: Index = self.starts + self.lengths
        return contexts


def plan_attention(sequences: Sequences, *, block_size: int, window: int | None) -> AttentionPlan:
    """The plan of a step. `window`: tokens that windowed layers see."""
    planner = _Planner(sequences, block_size)
    return AttentionPlan(
        write_slots=torch.from_numpy(planner.write_slots()),
        full=planner.view(None),
        windowed=None if window is None else planner.view(window),
    )


class _Planner:
    def __init__(self, sequences: Sequences, block_size: int) -> None:
        self._sequences, self._block_size = sequences, block_size
        self._contexts = sequences.contexts
        self._decode_count = int(np.count_nonzero(sequences.lengths == 1))
        self._rows = np.concatenate(([0], np.cumsum(sequences.lengths)))  # [S + 1] first rows

    def write_slots(self) -> Index:
        """[T] the slots of the step's own rows."""
        owners = np.repeat(np.arange(len(self._sequences.lengths)), self._sequences.lengths)
        offsets = np.arange(self._rows[-1]) - self._rows[owners]
        return self._slots(owners, self._sequences.starts[owners] + offsets)

    def view(self, window: int | None) -> View:
        count = self._decode_count
        groups = decode_groups([self._seen(int(c), window) for c in self._contexts[:count]])
        return View(
            decode=tuple(self._decode_span(first, end, window) for first, end in groups),
            prefill=tuple(
                self._prefill_span(index, window)
                for index in range(count, len(self._sequences.lengths))
            ),
        )

    def _seen(self, context: int, window: int | None) -> int:
        return context if window is None else min(context, window)

    def _decode_span(self, first: int, end: int, window: int | None) -> Span:
        contexts = self._contexts[first:end, None]  # [rows, 1]
        seen = contexts if window is None else np.minimum(contexts, window)
        columns = np.arange(seen.max())[None, :]  # [1, L]
        positions = np.minimum(contexts - seen + columns, contexts - 1)
        slots = self._slots(np.arange(first, end)[:, None], positions)
        visible = columns < seen
        mask = None if visible.all() else self._mask(visible)[:, None, None, :]
        return Span(first, end, torch.from_numpy(slots), mask)

    def _prefill_span(self, index: int, window: int | None) -> Span:
        first, end = int(self._rows[index]), int(self._rows[index + 1])
        start, context = int(self._sequences.starts[index]), int(self._contexts[index])
        oldest = 0 if window is None else max(0, start + 1 - window)
        columns = np.arange(oldest, context)  # [L] positions that any row sees
        slots = torch.from_numpy(self._slots(np.full_like(columns, index), columns))
        if start == 0 and (window is None or context <= window):
            return Span(first, end, slots, None, causal=True)
        rows = np.arange(start, context)[:, None]
        visible = columns <= rows
        if window is not None:
            visible &= columns > rows - window
        return Span(first, end, slots, self._mask(visible))

    def _slots(self, sequences: Index, positions: Index) -> Index:
        """The slot of each position of each sequence; both of one (broadcast) shape."""
        blocks = self._sequences.tables[sequences, positions // self._block_size]
        slots: Index = blocks * self._block_size + positions % self._block_size
        return slots

    def _mask(self, visible: NDArray[np.bool_]) -> torch.Tensor:
        """0 where visible, else -inf: floats, as each layer would convert booleans again."""
        mask = torch.zeros(visible.shape)
        return mask.masked_fill_(torch.from_numpy(~visible), float("-inf"))


def decode_groups(seen: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges of rows to gather together. `seen`: tokens each row reads, longest first."""
    groups: list[tuple[int, int]] = []
    first = 0
    for row, tokens in enumerate(seen):
        longest = seen[first]
        wasteful = longest > GROUP_SPREAD_TOKENS and tokens < longest // 2
        if row > first and (wasteful or (row + 1 - first) * longest > GROUP_TOKENS_MAX):
            groups.append((first, row))
            first = row
    if seen:
        groups.append((first, len(seen)))
    return groups
