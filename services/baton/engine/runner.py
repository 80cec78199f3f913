"""Runs one engine step on the processor: computes the decoder once over the batch, then samples.

Knows rows of hidden states and of logits, whoever makes them; knows nothing of queues, phases or
why a slice is in the batch.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from baton.common.errors import BatonError
from baton.engine.agreement import RowSample, agreed, wanted_draws
from baton.engine.batch import BatchSlice, SliceResult, StepBatch
from baton.engine.failure import NOT_FINITE, step_failure
from baton.engine.kernels.selection import Kernels, choose_library
from baton.engine.kvcache import PagedKvCache
from baton.engine.models.step_model import build_step_model
from baton.engine.models.steps import Rows, StepModel, best_tokens
from baton.engine.params import TokenSample
from baton.engine.quant.kv import KvCacheDtype, kv_dtype_name, require_kv_on_cpu
from baton.engine.quant.quantization import Quantization, require_on_cpu
from baton.engine.sampler import RawLogprobs, sample_rows
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
            return self._run(batch)
        except BatonError:
            raise
        except Exception as error:
            raise step_failure(len(batch.slices), error) from error

    def _run(self, batch: StepBatch) -> list[SliceResult]:
        slices = batch.slices
        rows = self._decoder.compute(slices, self.cache, stands_back=batch.stands_back)
        wanted = [request for piece in slices for request in wanted_draws(piece)]
        drawn = sample_rows(rows.logits, wanted, rows.best)  # before scoring takes their place
        results, row = [], 0
        for first, piece in zip(rows.firsts, slices, strict=True):
            result = _drawn_result(piece, drawn[row : row + piece.draws])
            row += piece.draws
            if piece.prompt_logprobs is not None:
                hidden = rows.hidden[first : first + len(piece.token_ids)]
                result = self._scored(result, hidden, piece, piece.prompt_logprobs)
            results.append(result)
        return results

    def _scored(
        self, result: SliceResult, hidden: Rows, piece: BatchSlice, count: int
    ) -> SliceResult:
        """A result with the prompt logprobs that its slice asks for, of `count` tokens each.
        hidden: the slice's rows [T, hidden]."""
        scored: list[TokenSample] = []
        for first in range(0, len(piece.next_token_ids), SCORED_ROWS_MAX):
            following = piece.next_token_ids[first : first + SCORED_ROWS_MAX]
            logits = self._decoder.logits(hidden[first : first + len(following)])
            if not all(best_tokens(logits).finite):
                return replace(result, error=NOT_FINITE)
            scored += [
                RawLogprobs(row, count).sample(token)
                for row, token in zip(logits, following, strict=True)
            ]
        return replace(result, prompt_logprobs=tuple(scored))


def _drawn_result(piece: BatchSlice, drawn: Sequence[RowSample]) -> SliceResult:
    if not drawn:
        return SliceResult()
    error, samples = agreed(piece, drawn)
    return SliceResult(samples, error=error)


def build_runner(
    model: LocalModel,
    config: ModelConfig,
    *,
    quantization: Quantization,
    block_count: int,
    block_size: int,
    threads: int,
    niceness: int = 0,
    kv: KvCacheDtype = KvCacheDtype.AUTO,
    kernels: Kernels = Kernels.AUTO,
    kernel_cache_dir: Path | None = None,
) -> CpuRunner:
    """A runner with the model's weights and an empty cache.

    Raises ModelFileError, and ConfigError for a scheme or a cache of CUDA devices only.

    `threads` compute the steps: more than the cores at hand collapses throughput. `niceness`: how
    far steps that stand back do so.
    """
    require_on_cpu(quantization)
    library = choose_library(kernels, quantization, kernel_cache_dir, experts=config.experts)
    with open_weights(model, config) as source:
        decoder = build_step_model(
            source, config, quantization, library=library, threads=threads, niceness=niceness
        )
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
