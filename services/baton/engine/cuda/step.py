"""What all steps share on the device: inputs, decoder, sampler, and the memory between them.

Two sets of pinned memory and answers take turns, one for each step that may be under way. Knows
places and lanes; knows nothing of tickets and results.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from baton.engine.cuda.decoder import DeviceDecoder
from baton.engine.cuda.device import Device, Pinned
from baton.engine.cuda.filling import StepShape
from baton.engine.cuda.graphs import Capture
from baton.engine.cuda.inputs import (
    NOWHERE,
    WORD_BYTES,
    InputLayout,
    StepInputs,
    view_inputs,
)
from baton.engine.cuda.kernels.attention_plan import differently_cut
from baton.engine.cuda.kvcache import DeviceKvCache
from baton.engine.cuda.sampling_rows import DeviceSampler, RowFetcher
from baton.model.config import ModelConfig

MEMORIES = 2
"""As many steps as may be under way."""


@dataclass(frozen=True, slots=True)
class StepMemory:
    """What belongs to one step until it is collected."""

    pinned_inputs: Pinned
    pinned_drawn: Pinned
    held: (
        torch.Tensor
    )  # [2 * samples] int32: ids of all samples, then whether their rows are finite

    @property
    def ids(self) -> torch.Tensor:
        """What the step drew, by sample."""
        return self.held

    def drawn(self, samples: int) -> torch.Tensor:
        return self.held[: 2 * samples]

    def answers(self, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and whether rows are finite, on the device: each [samples]."""
        return self.held[:samples], self.held[samples : 2 * samples]

    def answered(self, samples: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The same on the host, once they have come back."""
        words = self.pinned_drawn.array[: 2 * samples * WORD_BYTES].view(np.int32)
        return words[:samples], words[samples:]


class StepWork:
    """Made once, for the largest step there will be."""

    def __init__(
        self, config: ModelConfig, decoder: DeviceDecoder, device: Device, *, block_size: int
    ) -> None:
        self.config, self.decoder = config, decoder
        self._device = device
        limits, at = decoder.limits, device.torch_device
        width = -(-config.context_length // block_size)
        # every row of a step may be drawn from
        largest = InputLayout(limits.rows_max, limits.sequences_max, limits.rows_max, width)
        self._memory = torch.zeros(largest.nbytes, dtype=torch.uint8, device=at)
        self._tables = torch.zeros(limits.sequences_max, width, dtype=torch.int32, device=at)
        words = 2 * limits.rows_max
        self.memories = tuple(
            StepMemory(
                device.pin(largest.nbytes),
                device.pin(words * WORD_BYTES),
                torch.zeros(words, dtype=torch.int32, device=at),
            )
            for _ in range(MEMORIES)
        )
        self.sampler = DeviceSampler(
            rows_max=limits.samples_max, vocab_size=config.vocab_size, device=at
        )
        self.fetcher = RowFetcher(config.vocab_size, device)

    def upload(self, shape: StepShape, memory: StepMemory) -> StepInputs:
        """One copy for all numbers of a step."""
        self._device.steps.upload(memory.pinned_inputs, self._memory[: shape.layout.nbytes])
        return self.inputs(shape)

    def inputs(self, shape: StepShape) -> StepInputs:
        return view_inputs(self._memory, shape.layout)

    def follow(self, inputs: StepInputs, ids: torch.Tensor) -> None:
        """Tokens that the step before drew take their rows. What it could not draw becomes some
        token: that request has ended, and nobody looks at the row."""
        drawn = ids.index_select(0, inputs.sources.clamp(min=0)).clamp_(min=0)
        torch.where(inputs.sources == NOWHERE, inputs.tokens, drawn, out=inputs.tokens)

    def place_tables(self, shape: StepShape) -> None:
        """Block tables go where the graphs look for them."""
        tables = self.inputs(shape).block_tables
        count, width = tables.shape
        self._tables[:count, :width].copy_(tables)

    def graph_inputs(self, size: int) -> StepInputs:
        """Where a graph of `size` sequences finds its numbers."""
        layout = InputLayout(size, size, size, 0)
        return view_inputs(self._memory, layout, self._tables[:size])

    def graph_work(self, cache: DeviceKvCache) -> Capture:
        """The model and its head over a batch of one row per sequence."""

        def work(size: int) -> None:
            inputs = self.graph_inputs(size)
            self.decoder.forward(inputs, cache, rows_longest=1)
            self.decoder.logits(inputs.sample_rows)

        def warm(size: int) -> None:
            self._clear(InputLayout(size, size, size, 0))
            with self._device.steps.working():
                work(size)

        return Capture(warm, work)

    def warm_rows(self, rows: int, cache: DeviceKvCache) -> None:
        """Run a step of so many rows, all padding, in each number of sequences that makes a
        difference. Called for one, two, four rows and so on, it tries every number once."""
        most = min(rows, self.decoder.limits.sequences_max)
        counts = range(rows // 2 + 1, most + 1)
        kv_heads, processors = self.config.kv_heads, self._device.processors
        for sequences in differently_cut(counts, kv_heads, processors) or (1,):
            self._warm_step(rows, sequences, cache)

    def _warm_step(self, rows: int, sequences: int, cache: DeviceKvCache) -> None:
        """And sample from it. As if one sequence might have all the rows: every kernel runs."""
        samples = min(rows, self.sampler.rows_max)
        layout = InputLayout(rows, sequences, samples, 1)
        self._clear(layout)
        inputs = view_inputs(self._memory, layout)
        ids, finite = self.memories[0].answers(samples)
        with self._device.steps.working():
            self.decoder.forward(inputs, cache, rows_longest=rows)
            logits = self.decoder.logits(inputs.sample_rows)
            for greedy in (True, False):
                self.sampler.choose(logits, inputs, slice(0, samples), ids, finite, greedy=greedy)

    def _clear(self, layout: InputLayout) -> None:
        """All padding: no row writes anywhere or belongs to a sequence."""
        with self._device.steps.working():
            self._memory[: layout.nbytes].zero_()
            inputs = view_inputs(self._memory, layout)
            for nowhere in (inputs.write_slots, inputs.sources, inputs.draw_positions):
                nowhere.fill_(NOWHERE)
