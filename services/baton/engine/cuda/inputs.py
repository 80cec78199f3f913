"""A step's numbers on their way to the device: packed on the host, one copy, fixed places there.

All arrays of a step lie behind each other. Where one begins depends on the numbers
of rows, sequences and samples alone, so a graph that was captured for a batch size finds them where
they were. Padding sequences have a context of 0 and padding rows the slot -1. Knows layouts;
knows no slices and no model.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

WORD_BYTES = 4
NOWHERE = -1
"""As a slot: nothing is written. As a source: the token is known. As a position: nothing is
drawn."""


@dataclass(frozen=True)
class InputLayout:
    """The arrays of a step of T `rows` in S `sequences` of which R `samples` are drawn."""

    rows: int
    sequences: int
    samples: int
    table_width: int  # W: blocks of the longest table

    @cached_property
    def shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Of each array its shape and type, in order; the eight-byte one first, tables last."""
        rows, samples = (self.rows,), (self.samples,)
        return {
            "seeds": (samples, "int64"),
            "tokens": (rows, "int32"),
            "positions": (rows, "int32"),
            "write_slots": (rows, "int32"),
            "sources": (rows, "int32"),
            "query_starts": ((self.sequences + 1,), "int32"),
            "context_lengths": ((self.sequences,), "int32"),
            "sample_rows": (samples, "int32"),
            "temperature": (samples, "float32"),
            "top_p": (samples, "float32"),
            "min_p": (samples, "float32"),
            "top_k": (samples, "int32"),
            "draw_positions": (samples, "int32"),
            "block_tables": ((self.sequences, self.table_width), "int32"),
        }

    @cached_property
    def places(self) -> dict[str, tuple[int, int]]:
        """First byte and end of each array."""
        places, begin = {}, 0
        for name, (shape, kind) in self.shapes.items():
            end = begin + int(np.prod(shape)) * np.dtype(kind).itemsize
            places[name] = (begin, end)
            begin = end
        return places

    @property
    def nbytes(self) -> int:
        return self.places["block_tables"][1]


class HostInputs:
    """The arrays in host memory, to be filled. What is not filled is padding."""

    def __init__(self, layout: InputLayout, memory: NDArray[np.uint8]) -> None:
        self._layout, self._memory = layout, memory
        memory[: layout.nbytes] = 0
        for name in ("write_slots", "sources", "draw_positions"):
            self.whole(name).fill(NOWHERE)
        self.real("top_p").fill(1.0)

    def whole(self, name: str) -> NDArray[np.int32]:
        """An int32 array."""
        return self._array(name, np.dtype(np.int32)).view(np.int32)

    def real(self, name: str) -> NDArray[np.float32]:
        return self._array(name, np.dtype(np.float32)).view(np.float32)

    @property
    def seeds(self) -> NDArray[np.uint64]:
        return self._array("seeds", np.dtype(np.int64)).view(np.uint64)

    def _array(self, name: str, kind: np.dtype[np.generic]) -> NDArray[np.generic]:
        shape, named = self._layout.shapes[name]
        assert np.dtype(named) == kind, f"{name} holds {named}"
        begin, end = self._layout.places[name]
        return self._memory[begin:end].view(kind).reshape(shape)


@dataclass(frozen=True, slots=True)
class StepInputs:
    """A step on the device. T rows, S sequences, R samples; indices are int32."""

    tokens: torch.Tensor  # [T]
    positions: torch.Tensor  # [T]
    write_slots: torch.Tensor  # [T] block * block_size + offset; -1: nothing is written
    sources: torch.Tensor  # [T] the sample of the step before that is this row's token; -1: none
    query_starts: torch.Tensor  # [S + 1] first row of each sequence, and the end of the last
    context_lengths: torch.Tensor  # [S] tokens in the cache after the step; 0: padding
    block_tables: torch.Tensor  # [S, W] contiguous
    sample_rows: torch.Tensor  # [R] the row whose logits a sample is drawn from
    seeds: torch.Tensor  # [R] int64: the bits of the unsigned seed
    draw_positions: torch.Tensor  # [R] index of the token to be drawn; -1: padding
    temperature: torch.Tensor  # [R] float32
    top_p: torch.Tensor  # [R] float32
    min_p: torch.Tensor  # [R] float32
    top_k: torch.Tensor  # [R]


def view_inputs(
    memory: torch.Tensor, layout: InputLayout, tables: torch.Tensor | None = None
) -> StepInputs:
    """The arrays in device memory [bytes]; `tables` [S, W]: where they are instead."""
    found: dict[str, torch.Tensor] = {}
    for name, (shape, kind) in layout.shapes.items():
        begin, end = layout.places[name]
        found[name] = memory[begin:end].view(getattr(torch, kind)).view(shape)
    if tables is not None:
        found["block_tables"] = tables
    return StepInputs(**found)
