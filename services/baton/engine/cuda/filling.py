"""From slices to the numbers of a step: what the host computes before it launches anything.

A step whose every slice has one row is padded to a graph's size where there is one. Checks what the
kernels do not: ids out of range would read anyone's memory. Knows slices and layouts; knows no
device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from baton.common.errors import EngineFailure
from baton.engine.agreement import wanted_draws
from baton.engine.batch import BatchSlice, SampleRequest
from baton.engine.cuda.graphs import padded_size
from baton.engine.cuda.inputs import HostInputs, InputLayout

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Draw:
    """One token to be drawn."""

    slice_index: int
    row: int
    request: SampleRequest


@dataclass(frozen=True, slots=True)
class StepShape:
    """A step's slices and how they are laid out."""

    slices: Sequence[BatchSlice]
    firsts: Sequence[int]  # the first row of each slice
    draws: tuple[Draw, ...]  # in the order of the samples
    layout: InputLayout
    rows_longest: int  # rows of the longest slice
    graph_size: int | None  # None: launched kernel by kernel

    @property
    def places(self) -> Sequence[int]:
        """Of each draw, its sample. In a graph every row has one, whether or not it draws."""
        if self.graph_size is not None:
            return [draw.row for draw in self.draws]
        return range(len(self.draws))

    @property
    def place_of_slice(self) -> Mapping[int, int]:
        """Of each slice that draws, the first of its samples."""
        found: dict[int, int] = {}
        for place, draw in zip(self.places, self.draws, strict=True):
            found.setdefault(draw.slice_index, place)
        return found


def shape_step(slices: Sequence[BatchSlice], sizes: tuple[int, ...]) -> StepShape:
    """`sizes`: batch sizes that have a graph."""
    lengths = [len(piece.token_ids) for piece in slices]
    ends = list(np.cumsum(lengths))
    firsts = [int(end) - length for end, length in zip(ends, lengths, strict=True)]
    draws = tuple(
        Draw(index, int(ends[index]) - back, request)
        for index, piece in enumerate(slices)
        if piece.sample is not None
        for back, request in _from_the_end(wanted_draws(piece))
    )
    size = None
    if max(lengths) == 1 and all(piece.prompt_logprobs is None for piece in slices):
        size = padded_size(len(slices), sizes)
    width = max(len(piece.block_table) for piece in slices)
    rows, sequences = size or sum(lengths), size or len(slices)
    layout = InputLayout(rows, sequences, size or len(draws), width)
    return StepShape(slices, firsts, draws, layout, max(lengths), size)


def _from_the_end(draws: Sequence[SampleRequest]) -> list[tuple[int, SampleRequest]]:
    """Each draw with how far before the end of its slice its row lies."""
    return list(zip(range(len(draws), 0, -1), draws, strict=True))


class Filler:
    """Writes steps into host memory. Block tables only grow while a request lives, so what was
    written of one in the last step is copied, not read again."""

    def __init__(self, *, block_size: int, block_count: int, vocab_size: int) -> None:
        self._block_size, self._block_count = block_size, block_count
        self._vocab_size = vocab_size
        self._tables: dict[str, tuple[Sequence[int], Ints]] = {}  # of the requests of the last step

    def fill(self, shape: StepShape, memory: NDArray[np.uint8], sources: Mapping[int, int]) -> None:
        """`sources`: of each slice of the step before that drew, its sample. Raises
        EngineFailure."""
        host = HostInputs(shape.layout, memory)
        slices, count = shape.slices, len(shape.slices)
        lengths = np.array([len(piece.token_ids) for piece in slices])
        starts = np.array([piece.start for piece in slices])
        tables = host.whole("block_tables")
        self._fill_tables(slices, tables)
        tokens = np.array([token for piece in slices for token in piece.token_ids], np.int64)
        self._check(shape, tokens, tables[:count])
        rows = len(tokens)
        owners = np.repeat(np.arange(count), lengths)
        positions = starts[owners] + np.arange(rows) - np.asarray(shape.firsts)[owners]
        blocks = tables[owners, positions // self._block_size]
        slots = blocks * self._block_size + positions % self._block_size
        host.whole("tokens")[:rows] = tokens
        host.whole("positions")[:rows] = positions
        host.whole("write_slots")[:rows] = slots
        host.whole("query_starts")[:count] = shape.firsts
        host.whole("query_starts")[count:] = rows
        host.whole("context_lengths")[:count] = starts + lengths
        self._fill_sources(shape, host.whole("sources"), sources)
        fill_samples(shape, host)

    def _fill_sources(self, shape: StepShape, rows: Ints, sources: Mapping[int, int]) -> None:
        for first, piece in zip(shape.firsts, shape.slices, strict=True):
            if piece.follows is not None:
                if piece.follows not in sources:
                    raise EngineFailure(f"{piece.request_id} follows a slice that drew nothing")
                rows[first] = sources[piece.follows]

    def _fill_tables(self, slices: Sequence[BatchSlice], tables: Ints) -> None:
        known, self._tables = self._tables, {}
        for row, piece in enumerate(slices):
            table, written = known.get(piece.request_id, (None, np.zeros(0, np.int32)))
            # the very list it was: a preempted request gets a new one
            same = table is piece.block_table and len(written) <= len(piece.block_table)
            if not same or len(written) < len(piece.block_table):
                begin = len(written) if same else 0
                added = np.asarray(piece.block_table[begin:], dtype=np.int32)
                written = np.concatenate((written[:begin], added))
            self._tables[piece.request_id] = (piece.block_table, written)
            tables[row, : len(written)] = written

    def _check(self, shape: StepShape, tokens: NDArray[np.int64], tables: Ints) -> None:
        size = self._block_size
        if tokens.min(initial=0) < 0 or tokens.max(initial=0) >= self._vocab_size:
            raise EngineFailure("a token id is not in the vocabulary")
        if tables.min(initial=0) < 0 or tables.max(initial=0) >= self._block_count:
            raise EngineFailure("a block id is not in the cache")
        if not all(piece.token_ids for piece in shape.slices):
            raise EngineFailure("a slice has no rows")
        if any(piece.context_length > size * len(piece.block_table) for piece in shape.slices):
            raise EngineFailure("a block table is shorter than its slice")


def fill_samples(shape: StepShape, host: HostInputs) -> None:
    """What each draw asks for."""
    places = list(shape.places)
    if shape.graph_size is not None:
        host.whole("sample_rows")[:] = np.arange(shape.graph_size)
    else:
        host.whole("sample_rows")[:] = [draw.row for draw in shape.draws]
    params = [draw.request.params for draw in shape.draws]
    host.seeds[places] = np.array([p.seed for p in params], dtype=np.uint64)
    host.whole("draw_positions")[places] = [draw.request.position for draw in shape.draws]
    host.real("temperature")[places] = [p.temperature for p in params]
    host.real("top_p")[places] = [p.top_p for p in params]
    host.real("min_p")[places] = [p.min_p for p in params]
    host.whole("top_k")[places] = [p.top_k for p in params]
