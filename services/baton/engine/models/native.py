"""The decoder on our own kernels: one call per step for all layers, all families, all schemes.

Knows the kernels' structs and what must hold before they are called: they check nothing. A row's
hidden state has the same bits in any chunk, beside any other row and on any number of threads.
"""

import ctypes
import weakref
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from baton.common.errors import EngineFailure
from baton.engine.batch import BatchSlice
from baton.engine.crewing import ROWS_MAX, Crewing
from baton.engine.kernels.library import KernelLibrary
from baton.engine.kernels.structs import KvType, StepStruct
from baton.engine.kvcache import PagedKvCache
from baton.engine.memory import CACHE_LINE_BYTES, RowSpace
from baton.engine.models.packed import PackedModel
from baton.engine.models.steps import BestTokens, HiddenRows, Rows, StepTime
from baton.engine.rows import FlatRows, flat_rows
from baton.model.config import ModelConfig

# Rows of logits start an odd number of cache lines apart: were it a multiple of a page, all rows'
# stores would fight for the same few places of the first cache.
LINE_FLOATS = CACHE_LINE_BYTES // 4

KV_TYPES = {
    "float32": KvType.FLOAT32,
    "bfloat16": KvType.BFLOAT16,
    "int8": KvType.INT8,
}


class NativeDecoder:
    """Implements StepModel."""

    def __init__(
        self, config: ModelConfig, library: KernelLibrary, model: PackedModel, threads: int
    ) -> None:
        self.config = config
        self._library, self._model = library, model
        self._hidden, self._logits = RowSpace(), RowSpace()
        self._crewing, self._alone = Crewing(), False
        self._seconds = (ctypes.c_double * len(StepTime._fields))()
        self._handle = library.new_decoder(model.struct, threads)
        weakref.finalize(self, library.delete_decoder, self._handle)

    @property
    def time_spent(self) -> StepTime:
        """Since the start, by part; the head is not in it."""
        return StepTime(*self._seconds)

    def compute(self, slices: Sequence[BatchSlice], cache: PagedKvCache) -> HiddenRows:
        """Raises EngineFailure for ids out of range; they are the caller's mistake."""
        rows = flat_rows(slices)
        self._check(rows, cache)
        hidden = self._hidden.rows(len(rows.tokens), self.config.hidden_size)
        arrays = (rows.tokens, rows.starts, rows.lengths, rows.tables, rows.table_offsets)
        tokens, starts, lengths, tables, offsets = (array.ctypes.data for array in arrays)
        kv_tokens = int(rows.starts.sum()) + len(rows.tokens)
        self._alone = self._crewing.alone(len(rows.tokens), kv_tokens)
        step = StepStruct(
            tokens=tokens,
            starts=starts,
            lengths=lengths,
            tables=tables,
            table_offsets=offsets,
            cache=cache.address,
            hidden=hidden.ctypes.data,
            seconds=self._seconds,
            rows=len(rows.tokens),
            sequences=len(rows.lengths),
            kv_type=KV_TYPES[cache.dtype],
            block_count=cache.block_count,
            block_size=cache.block_size,
            alone=self._alone,
        )
        before_s = sum(self._seconds)
        self._library.step(self._handle, step)
        seconds = sum(self._seconds) - before_s
        self._crewing.note(len(rows.tokens), kv_tokens, alone=self._alone, seconds=seconds)
        return HiddenRows(hidden, rows.firsts)

    def logits(self, hidden: Rows) -> Rows:
        """Final hidden rows [R, hidden] -> [R, vocab]."""
        hidden = np.ascontiguousarray(hidden)
        vocab = self.config.vocab_size
        stride = -(-vocab // LINE_FLOATS) * LINE_FLOATS + LINE_FLOATS
        logits = self._logits.rows(len(hidden), stride)
        self._library.logits(
            self._handle,
            hidden.ctypes.data,
            len(hidden),
            logits.ctypes.data,
            stride,
            alone=self._alone and len(hidden) <= ROWS_MAX,
        )
        return logits[:, :vocab]

    def best(self, logits: Rows) -> BestTokens:
        """[R, vocab], in one pass over them."""
        token_ids = np.empty(len(logits), np.int32)
        finite = np.empty(len(logits), np.int32)
        self._library.best(
            self._handle,
            logits.ctypes.data,
            len(logits),
            logits.strides[0] // logits.itemsize,
            token_ids.ctypes.data,
            finite.ctypes.data,
        )
        return BestTokens(token_ids.tolist(), finite.astype(bool).tolist())

    def _check(self, rows: FlatRows, cache: PagedKvCache) -> None:
        if not _all_below(rows.tokens, self.config.vocab_size):
            raise EngineFailure("a token id is not in the vocabulary")
        if not _all_below(rows.tables, cache.block_count):
            raise EngineFailure("a block id is not in the cache")
        if not all(rows.lengths):
            raise EngineFailure("a slice has no rows")
        if not rows.covered(cache.block_size):
            raise EngineFailure("a block table is shorter than its slice")


def _all_below(ids: NDArray[np.int32], limit: int) -> bool:
    # as unsigned numbers, negative ids are huge
    return int(ids.view(np.uint32).max(initial=0)) < limit
