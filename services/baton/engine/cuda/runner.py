"""Runs engine steps on a device: launched without waiting, collected when their tokens are back.

A step's numbers are packed and copied up in one piece, the model is computed (decode steps by
replaying a graph), tokens are drawn on the device and travel back on a lane of their own. The next
step takes tokens it follows from the device, before the host has seen them. Knows slices and
tickets; knows nothing of queues or why a slice is in the batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from baton.common.errors import BatonError, EngineFailure
from baton.common.logs import get_log
from baton.engine.agreement import RowSample, agreed
from baton.engine.batch import BatchSlice, SliceResult, StepBatch, Ticket
from baton.engine.cuda.device import Device, Event, Graph
from baton.engine.cuda.filling import Filler, StepShape, shape_step
from baton.engine.cuda.kvcache import DeviceKvCache
from baton.engine.cuda.sampling_rows import device_sample, takes_host
from baton.engine.cuda.step import StepMemory, StepWork
from baton.engine.failure import NOT_FINITE, step_failure
from baton.engine.models.steps import best_tokens
from baton.engine.params import TokenSample
from baton.engine.sampler import RawLogprobs, sample_rows

STEPS_UNDERWAY_MAX = 2
OUT_OF_MEMORY = "the device ran out of memory in this request's step"


@dataclass(slots=True)
class _Underway:
    """A launched step; without an event it failed for want of memory."""

    shape: StepShape
    memory: StepMemory
    event: Event | None = None
    host_drawn: dict[int, RowSample] = field(default_factory=dict)  # by draw
    scored: dict[int, SliceResult] = field(default_factory=dict)  # by slice


class CudaRunner:
    """Implements Launcher."""

    def __init__(
        self, device: Device, work: StepWork, cache: DeviceKvCache, graphs: Mapping[int, Graph]
    ) -> None:
        self._device, self._work, self._cache = device, work, cache
        self._graphs, self._sizes = graphs, tuple(sorted(graphs))
        self._filler = Filler(
            block_size=cache.block_size,
            block_count=cache.block_count,
            vocab_size=work.config.vocab_size,
        )
        self._underway: dict[Ticket, _Underway] = {}
        self._launched = 0
        self._last: _Underway | None = None

    def run(self, batch: StepBatch) -> list[SliceResult]:
        """One result per slice, in their order. Raises EngineFailure."""
        return self.collect(self.launch(batch))

    def launch(self, batch: StepBatch) -> Ticket:
        """Waits for the device only where logits must come to the host. Raises EngineFailure."""
        if len(self._underway) >= STEPS_UNDERWAY_MAX:
            raise EngineFailure("a third step is launched while two are under way")
        shape = shape_step(batch.slices, self._sizes)
        self._work.decoder.limits.require_fit(shape.layout.rows, shape.layout.sequences)
        memory = self._work.memories[self._launched % STEPS_UNDERWAY_MAX]
        step = _Underway(shape, memory)
        try:
            self._tell(step)
        except torch.OutOfMemoryError:
            get_log(__name__).error("out of device memory", rows=shape.layout.rows)
            self._device.release_cached()
            step.event = None
        except BatonError:
            raise
        except Exception as error:
            raise step_failure(len(batch.slices), error) from error
        self._launched += 1
        ticket = Ticket(self._launched)
        self._underway[ticket] = self._last = step
        return ticket

    def collect(self, ticket: Ticket) -> list[SliceResult]:
        """Raises EngineFailure where the device has failed."""
        step = self._underway.pop(ticket)
        shape = step.shape
        if step.event is None:
            return [SliceResult(error=OUT_OF_MEMORY) for _ in shape.slices]
        try:
            step.event.wait()
        except Exception as error:
            raise step_failure(len(shape.slices), error) from error
        drawn: list[list[RowSample]] = [[] for _ in shape.slices]
        for index, sample in enumerate(self._samples(step)):
            drawn[shape.draws[index].slice_index].append(sample)
        return [
            _result(piece, rows, step.scored.get(index, SliceResult()))
            for index, (piece, rows) in enumerate(zip(shape.slices, drawn, strict=True))
        ]

    def logits(self, rows: range) -> NDArray[np.float32]:
        """Of some rows of the step launched last, SAMPLES_MAX at most: [R, vocab], the host's own.
        For looking at an answer closely; waits for the step."""
        with self._device.steps.working():
            return self._score_rows(rows.start, len(rows))

    def _tell(self, step: _Underway) -> None:
        """Everything the device does for a step."""
        shape, memory = step.shape, step.memory
        before = self._last
        sources = {} if before is None else before.shape.place_of_slice
        self._filler.fill(shape, memory.pinned_inputs.array, sources)
        inputs = self._work.upload(shape, memory)
        with self._device.steps.working():
            if before is not None and any(piece.follows is not None for piece in shape.slices):
                self._work.follow(inputs, before.memory.ids)
            self._compute(step)
        lane = self._device.results
        lane.wait(self._device.steps.mark())
        step.event = lane.fetch(memory.drawn(shape.layout.samples), memory.pinned_drawn)

    def _compute(self, step: _Underway) -> None:
        """The model, then every row of logits that is asked for."""
        shape, work = step.shape, self._work
        inputs = work.inputs(shape)
        if shape.graph_size is None:
            work.decoder.forward(inputs, self._cache, rows_longest=shape.rows_longest)
        else:
            work.place_tables(shape)
            self._graphs[shape.graph_size].replay()
        for index, piece in enumerate(shape.slices):
            if piece.prompt_logprobs is not None:
                step.scored[index] = self._score(piece, shape.firsts[index])
        greedy = all(draw.request.params.greedy for draw in shape.draws)
        for first in range(0, shape.layout.samples, work.sampler.rows_max):
            samples = slice(first, min(first + work.sampler.rows_max, shape.layout.samples))
            whole = shape.graph_size is not None  # of a graph's logits all are there
            rows = inputs.sample_rows[samples]
            logits = work.decoder.held_logits(len(rows)) if whole else work.decoder.logits(rows)
            ids, finite = step.memory.answers(shape.layout.samples)
            work.sampler.choose(
                logits, inputs, samples, ids[samples], finite[samples], greedy=greedy
            )
            self._draw_on_host(step, logits, samples)

    def _draw_on_host(self, step: _Underway, logits: torch.Tensor, samples: slice) -> None:
        """Tokens of those of these samples that take the host."""
        shape = step.shape
        asked = [
            (index, place)
            for index, place in enumerate(shape.places)
            if samples.start <= place < samples.stop and takes_host(shape.draws[index].request)
        ]
        if not asked:
            return
        rows = self._work.fetcher.fetch(logits, [place - samples.start for _, place in asked])
        requests = [shape.draws[index].request for index, _ in asked]
        for (index, _), sample in zip(asked, sample_rows(rows, requests), strict=True):
            step.host_drawn[index] = sample

    def _score(self, piece: BatchSlice, first: int) -> SliceResult:
        """The prompt logprobs a slice asks for; its rows begin at `first`."""
        assert piece.prompt_logprobs is not None
        scored: list[TokenSample] = []
        following = piece.next_token_ids
        step = self._work.sampler.rows_max
        for begin in range(0, len(following), step):
            tokens = following[begin : begin + step]
            rows = self._score_rows(first + begin, len(tokens))
            if not all(best_tokens(rows).finite):
                return SliceResult(error=NOT_FINITE)
            scored += [
                RawLogprobs(row, piece.prompt_logprobs).sample(token)
                for row, token in zip(rows, tokens, strict=True)
            ]
        return SliceResult(prompt_logprobs=tuple(scored))

    def _score_rows(self, first: int, count: int) -> NDArray[np.float32]:
        at = self._device.torch_device
        wanted = torch.arange(first, first + count, dtype=torch.int32, device=at)
        return self._work.fetcher.fetch(self._work.decoder.logits(wanted), range(count))

    def _samples(self, step: _Underway) -> list[RowSample]:
        """What was drawn, in the order of the draws."""
        shape = step.shape
        ids, finite = step.memory.answered(shape.layout.samples)
        return [
            step.host_drawn.get(index) or device_sample(int(ids[place]), int(finite[place]))
            for index, place in enumerate(shape.places)
        ]


def _result(piece: BatchSlice, rows: Sequence[RowSample], scored: SliceResult) -> SliceResult:
    if not rows:
        return scored
    error, samples = agreed(piece, rows)
    return SliceResult(samples, scored.prompt_logprobs, scored.error or error)
