"""The decoder on our own kernels: one call per step for all layers, all families, all schemes.

Knows the kernels' structs and what must hold before they are called: they check nothing. A row's
hidden state has the same bits in any chunk, beside any other row and on any number of threads.
"""

import ctypes
import weakref
from collections.abc import Sequence

import numpy as np

from baton.common.errors import EngineFailure
from baton.engine.batch import BatchSlice
from baton.engine.crewing import Crewing
from baton.engine.kernels.library import KernelLibrary
from baton.engine.kernels.structs import KvType, StepStruct
from baton.engine.kvcache import PagedKvCache
from baton.engine.memory import CACHE_LINE_BYTES, RowSpace
from baton.engine.models.packed import PackedModel
from baton.engine.models.steps import BestTokens, Rows, StepRows, StepTime
from baton.engine.rows import FlatRows, address, flat_rows, ints
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
        self,
        config: ModelConfig,
        library: KernelLibrary,
        model: PackedModel,
        threads: int,
        niceness: int = 0,
    ) -> None:
        self.config = config
        self._library, self._model = library, model
        self._hidden, self._logits = RowSpace(), RowSpace()
        self._crewing = Crewing()
        self._seconds = (ctypes.c_double * len(StepTime._fields))()
        self._handle = library.new_decoder(model.struct, threads, niceness)
        weakref.finalize(self, library.delete_decoder, self._handle)

    @property
    def time_spent(self) -> StepTime:
        """Since the start, by part."""
        return StepTime(*self._seconds)

    def compute(
        self, slices: Sequence[BatchSlice], cache: PagedKvCache, *, stands_back: bool = False
    ) -> StepRows:
        """Raises EngineFailure for ids out of range; they are the caller's mistake."""
        rows = flat_rows(slices)
        self._check(rows, cache)
        count, drawn, kv_tokens = len(rows.tokens), len(rows.draws), rows.kv_tokens
        hidden = self._hidden.rows(count, self.config.hidden_size)
        logits = self._room(drawn)
        likeliest, finite = ints(rows.draws), ints(rows.draws)  # to be overwritten
        # standing back, a step's time tells of others' work
        alone = not stands_back and self._crewing.alone(count, kv_tokens)
        step = StepStruct(
            tokens=address(rows.tokens),
            starts=address(rows.starts),
            lengths=address(rows.lengths),
            tables=address(rows.tables),
            table_offsets=address(rows.table_offsets),
            cache=cache.address,
            draws=address(rows.draws),
            hidden=hidden.ctypes.data,
            logits=logits.ctypes.data,
            likeliest=address(likeliest),
            finite=address(finite),
            seconds=self._seconds,
            rows=count,
            sequences=len(rows.lengths),
            kv_type=KV_TYPES[cache.dtype],
            block_count=cache.block_count,
            block_size=cache.block_size,
            drawn=drawn,
            logits_stride=logits.shape[1],
            alone=alone,
            stands_back=stands_back,
        )
        before_s = sum(self._seconds)
        self._library.step(self._handle, step)
        seconds = sum(self._seconds) - before_s
        if not stands_back:
            self._crewing.note(count, kv_tokens, alone=alone, seconds=seconds)
        seen = BestTokens(likeliest, finite)
        return StepRows(hidden, rows.firsts, logits[:, : self.config.vocab_size], seen)

    def logits(self, hidden: Rows) -> Rows:
        """Final hidden rows [R, hidden] -> [R, vocab]."""
        hidden = np.ascontiguousarray(hidden)
        logits = self._room(len(hidden))
        self._library.logits(
            self._handle, hidden.ctypes.data, len(hidden), logits.ctypes.data, logits.shape[1]
        )
        return logits[:, : self.config.vocab_size]

    def _room(self, count: int) -> Rows:
        """For so many rows of logits: [count, vocab and more]."""
        stride = -(-self.config.vocab_size // LINE_FLOATS) * LINE_FLOATS + LINE_FLOATS
        return self._logits.rows(count, stride)

    def _check(self, rows: FlatRows, cache: PagedKvCache) -> None:
        if not _all_below(rows.tokens, self.config.vocab_size):
            raise EngineFailure("a token id is not in the vocabulary")
        if not _all_below(rows.tables, cache.block_count):
            raise EngineFailure("a block id is not in the cache")
        if not all(rows.lengths):
            raise EngineFailure("a slice has no rows")
        if not rows.covered(cache.block_size):
            raise EngineFailure("a block table is shorter than its slice")


def _all_below(ids: Sequence[int], limit: int) -> bool:
    return not ids or (min(ids) >= 0 and max(ids) < limit)
