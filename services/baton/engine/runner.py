"""Runs one engine step on the processor: computes the decoder once over the batch, then samples.

Knows rows of hidden states and of logits, whoever makes them; knows nothing of queues, phases or
why a slice is in the batch.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from baton.common.errors import BatonError
from baton.engine.agreement import agreed, wanted_draws
from baton.engine.batch import BatchSlice, SampleRequest, SliceResult, StepBatch
from baton.engine.failure import step_failure
from baton.engine.kernels.selection import Kernels, choose_library
from baton.engine.kvcache import PagedKvCache
from baton.engine.models.step_model import build_step_model
from baton.engine.models.steps import HiddenRows, Rows, StepModel
from baton.engine.params import TokenSample
from baton.engine.quant.kv import KvCacheDtype, kv_dtype_name, require_kv_on_cpu
from baton.engine.quant.quantization import Quantization, require_on_cpu
from baton.engine.sampler import NOT_FINITE, RawLogprobs, sample_rows
from baton.engine.weights.open import open_weights
from baton.model.config import ModelConfig
from baton.model.fetch import LocalModel

# Prompt rows scored at once: 128 rows of a 128k vocabulary are 64 MiB of logits.
SCORED_ROWS_MAX = 128


class CpuRunner:
    """Implements Runner. `cache` is the KvStore of the same blocks."""

    def __init__(self, decoder: StepModel, cache: PagedKvCache) -> None:
        self._decoder, self.cache = decoder, cache

    def run(self, batch: StepBatch) -> list[SliceResult]:
        """One result per slice, in their order. Raises EngineFailure."""
        if not batch.slices:
            return []
        try:
            return self._run(batch.slices)
        except BatonError:
            raise
        except Exception as error:
            raise step_failure(len(batch.slices), error) from error

    def _run(self, slices: Sequence[BatchSlice]) -> list[SliceResult]:
        rows = self._decoder.compute(slices, self.cache)
        results = [
            self._score(rows.hidden[first : first + len(piece.token_ids)], piece)
            for first, piece in zip(rows.firsts, slices, strict=True)
        ]
        self._sample(rows, slices, results)
        return results

    def _sample(
        self,
        rows: HiddenRows,
        slices: Sequence[BatchSlice],
        results: list[SliceResult],
    ) -> None:
        """Adds sampled tokens to `results`. Of the rows [T, hidden] only these reach the head."""
        asked = [index for index, piece in enumerate(slices) if piece.sample is not None]
        if not asked:
            return
        wanted = [wanted_draws(slices[index]) for index in asked]
        ends = [rows.firsts[index] + len(slices[index].token_ids) for index in asked]
        heads = [end - back for end, row in zip(ends, wanted, strict=True) for back in _from(row)]
        logits = self._decoder.logits(rows.hidden[heads])
        drawn = sample_rows(logits, list(chain(*wanted)), self._decoder.best)
        first = 0
        for index, row in zip(asked, wanted, strict=True):
            error, samples = agreed(slices[index], drawn[first : first + len(row)])
            error = results[index].error or error
            results[index] = replace(results[index], samples=samples, error=error)
            first += len(row)

    def _score(self, hidden: Rows, piece: BatchSlice) -> SliceResult:
        """The prompt logprobs a slice asks for. hidden: the slice's rows [T, hidden]."""
        if piece.prompt_logprobs is None:
            return SliceResult()
        scored: list[TokenSample] = []
        for first in range(0, len(piece.next_token_ids), SCORED_ROWS_MAX):
            following = piece.next_token_ids[first : first + SCORED_ROWS_MAX]
            logits = self._decoder.logits(hidden[first : first + len(following)])
            if not all(self._decoder.best(logits).finite):
                return SliceResult(error=NOT_FINITE)
            scored += [
                RawLogprobs(row, piece.prompt_logprobs).sample(token)
                for row, token in zip(logits, following, strict=True)
            ]
        return SliceResult(prompt_logprobs=tuple(scored))


def _from(draws: Sequence[SampleRequest]) -> range:
    """How far before the end of its slice each draw's row lies."""
    return range(len(draws), 0, -1)


def build_runner(
    model: LocalModel,
    config: ModelConfig,
    *,
    quantization: Quantization,
    block_count: int,
    block_size: int,
    threads: int,
    kv: KvCacheDtype = KvCacheDtype.AUTO,
    kernels: Kernels = Kernels.AUTO,
    kernel_cache_dir: Path | None = None,
) -> CpuRunner:
    """A runner with the model's weights and an empty cache.

    Raises ModelFileError, and ConfigError for a scheme or a cache of CUDA devices only.

    `threads` compute the steps: more than the cores at hand collapses throughput.
    """
    require_on_cpu(quantization)
    library = choose_library(kernels, quantization, kernel_cache_dir, experts=config.experts)
    with open_weights(model, config) as source:
        decoder = build_step_model(source, config, quantization, library=library, threads=threads)
    return CpuRunner(decoder, empty_cache(config, quantization, block_count, block_size, kv))


def empty_cache(
    config: ModelConfig,
    quantization: Quantization,
    block_count: int,
    block_size: int,
    kv: KvCacheDtype = KvCacheDtype.AUTO,
) -> PagedKvCache:
    """A cache of the type the scheme computes with, or of the one asked for."""
    name = kv_dtype_name(quantization, kv, block_size=block_size, head_size=config.head_size)
    require_kv_on_cpu(name)
    return PagedKvCache(config, block_count=block_count, block_size=block_size, dtype=name)
