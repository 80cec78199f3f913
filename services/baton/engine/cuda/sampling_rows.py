"""Tokens from rows of logits: on the device where it can, on the host where a request asks for what
the device does not do.

Penalties, biases and logprobs take the host: its code is the CPU workers' own, and such requests
are few. Knows draws and lanes; knows no model.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from baton.engine.agreement import RowSample
from baton.engine.batch import SampleRequest
from baton.engine.cuda.device import Device, Pinned
from baton.engine.cuda.inputs import StepInputs
from baton.engine.cuda.kernels.sampling import DrawParams, SamplingWorkspace, draw, likeliest
from baton.engine.failure import NOT_FINITE, NOTHING_LEFT
from baton.engine.filters import needs_edit
from baton.engine.params import TokenSample

HOST_ROWS_MAX = 16
"""Rows of logits on their way to the host at once: 8 MiB of a vocabulary of 128k."""


def takes_host(request: SampleRequest) -> bool:
    """Whether its row of logits must come to the host."""
    return needs_edit(request) or request.params.logprobs is not None


class DeviceSampler:
    """Chooses a token for each of up to `rows_max` rows at once."""

    def __init__(self, *, rows_max: int, vocab_size: int, device: torch.device) -> None:
        self.rows_max = rows_max
        self._workspace = SamplingWorkspace.allocate(rows=rows_max, vocab=vocab_size, device=device)

    def choose(
        self,
        logits: torch.Tensor,
        inputs: StepInputs,
        samples: slice,
        ids_out: torch.Tensor,
        finite_out: torch.Tensor,
        *,
        greedy: bool,
    ) -> None:
        """logits [R, vocab] of these samples of the step -> ids and whether the row is finite, both
        [R] int32. `greedy`: all are."""
        if greedy:
            likeliest(logits, ids_out, finite_out, self._workspace)
            return
        params = DrawParams(
            temperature=inputs.temperature[samples],
            top_k=inputs.top_k[samples],
            top_p=inputs.top_p[samples],
            min_p=inputs.min_p[samples],
            seed=inputs.seeds[samples],
            position=inputs.draw_positions[samples],
        )
        draw(logits, params, ids_out, finite_out, self._workspace)


def device_sample(token: int, finite: int) -> RowSample:
    """What the device's answer for a row says."""
    if not finite:
        return RowSample(error=NOT_FINITE)
    if token < 0:
        return RowSample(error=NOTHING_LEFT)
    return RowSample(sample=TokenSample(token))


class RowFetcher:
    """Brings rows of logits to the host, some at a time, through pinned memory of their own."""

    def __init__(self, vocab_size: int, device: Device) -> None:
        self._vocab_size, self._device = vocab_size, device
        self._pins: list[Pinned] = []  # made when the first row is asked for

    def fetch(self, logits: torch.Tensor, rows: Sequence[int]) -> NDArray[np.float32]:
        """Some rows of logits [R, vocab] float32, the host's own. Waits for the step."""
        found = np.empty((len(rows), self._vocab_size), np.float32)
        if rows and not self._pins:
            nbytes = self._vocab_size * found.itemsize
            self._pins = [self._device.pin(nbytes) for _ in range(HOST_ROWS_MAX)]
        lane = self._device.results
        lane.wait(self._device.steps.mark())
        for first in range(0, len(rows), HOST_ROWS_MAX):
            some = rows[first : first + HOST_ROWS_MAX]
            events = [
                lane.fetch(logits[row], pin) for row, pin in zip(some, self._pins, strict=False)
            ]
            events[-1].wait()
            for index, pin in enumerate(self._pins[: len(some)], first):
                found[index] = pin.array.view(np.float32)
        return found
