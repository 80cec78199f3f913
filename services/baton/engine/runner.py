"""Runs one engine step on torch: flattens the batch, computes the decoder once, samples.

Knows tensors; knows nothing of queues, phases or why a slice is in the batch.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from baton.common.errors import BatonError, EngineFailure
from baton.engine.batch import BatchSlice, SliceResult, StepBatch
from baton.engine.kvcache import PagedKvCache
from baton.engine.models.build import build_decoder
from baton.engine.models.decoder import Decoder
from baton.engine.params import TokenSample
from baton.engine.quant.linear import kv_dtype
from baton.engine.quant.quantization import Quantization
from baton.engine.rows import Rows, flatten
from baton.engine.sampler import NOT_FINITE, RawLogprobs, finite_rows, sample_rows
from baton.engine.weights.open import open_weights
from baton.model.config import ModelConfig
from baton.model.fetch import LocalModel

# Prompt rows scored at once: 128 rows of a 128k vocabulary are 64 MiB of logits.
SCORED_ROWS_MAX = 128
# Enough of a torch error to find its cause; some carry whole tensors.
FAILURE_CHARS_MAX = 200


class TorchRunner:
    """Implements Runner. `cache` is the KvStore of the same blocks."""

    def __init__(self, decoder: Decoder, cache: PagedKvCache) -> None:
        self._decoder, self.cache = decoder, cache

    def run(self, batch: StepBatch) -> list[SliceResult]:
        """One result per slice, in their order. Raises EngineFailure."""
        if not batch.slices:
            return []
        try:
            with torch.inference_mode():
                return self._run(batch.slices)
        except BatonError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error!s:.{FAILURE_CHARS_MAX}}"
            raise EngineFailure(f"a step of {len(batch.slices)} slices failed: {what}") from error

    def _run(self, slices: Sequence[BatchSlice]) -> list[SliceResult]:
        config = self._decoder.config
        rows = flatten(
            slices,
            block_size=self.cache.block_size,
            window=config.sliding_window if config.sliding_layers else None,
            dtype=self.cache.dtype,
        )
        hidden = self._decoder.forward(rows.tokens, rows.positions, rows.plan, self.cache)
        results = [
            self._score(hidden[first : first + len(piece.token_ids)], piece)
            for first, piece in zip(rows.firsts, slices, strict=True)
        ]
        self._sample(hidden, rows, slices, results)
        return results

    def _sample(
        self,
        hidden: torch.Tensor,
        rows: Rows,
        slices: Sequence[BatchSlice],
        results: list[SliceResult],
    ) -> None:
        """Adds sampled tokens to `results`. Of the rows [T, hidden] only these reach the head."""
        asked = [index for index, piece in enumerate(slices) if piece.sample is not None]
        requests = [piece.sample for piece in slices if piece.sample is not None]
        if not asked:
            return
        ends = [rows.firsts[index] + len(slices[index].token_ids) - 1 for index in asked]
        for index, found in zip(
            asked, sample_rows(self._decoder.logits(hidden[ends]), requests), strict=True
        ):
            error = results[index].error or found.error
            results[index] = replace(results[index], sample=found.sample, error=error)

    def _score(self, hidden: torch.Tensor, piece: BatchSlice) -> SliceResult:
        """The prompt logprobs a slice asks for. hidden: the slice's rows [T, hidden]."""
        if piece.prompt_logprobs is None:
            return SliceResult()
        scored: list[TokenSample] = []
        for first in range(0, len(piece.next_token_ids), SCORED_ROWS_MAX):
            following = piece.next_token_ids[first : first + SCORED_ROWS_MAX]
            logits = self._decoder.logits(hidden[first : first + len(following)])
            if not all(finite_rows(logits)):
                return SliceResult(error=NOT_FINITE)
            raw = RawLogprobs(logits, [piece.prompt_logprobs] * len(following))
            scored += [raw.sample(row, token) for row, token in enumerate(following)]
        return SliceResult(prompt_logprobs=tuple(scored))


def build_runner(
    model: LocalModel,
    config: ModelConfig,
    *,
    quantization: Quantization,
    block_count: int,
    block_size: int,
    threads: int,
) -> TorchRunner:
    """A runner with the model's weights and an empty cache. Raises ModelFileError.

    `threads` is torch's, for the whole process: more than the cores at hand collapses throughput.
    """
    torch.set_num_threads(threads)
    with open_weights(model, config) as source:
        decoder = build_decoder(source, config, quantization)
    return TorchRunner(decoder, empty_cache(config, quantization, block_count, block_size))


def empty_cache(
    config: ModelConfig, quantization: Quantization, block_count: int, block_size: int
) -> PagedKvCache:
    """A cache of the type the scheme computes with."""
    return PagedKvCache(
        config, block_count=block_count, block_size=block_size, dtype=kv_dtype(quantization)
    )
