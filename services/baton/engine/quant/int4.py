"""The linear layer with 4-bit weights and 8-bit activations: what is read is half of int8.

A weight is an 8-bit level of its output's scale, computed from a number of 4 bits: 32 channels
share a step and a start, in 256ths of a level. GGUF's Q4_0 and Q4_1 group in the same way, so their
numbers come through as they were written. A token has a scale for every 64 channels: a few
channels are far larger than the rest and would cost all others their levels. `int8` spreads them by
a rotation, which numbers of 4 bits would not survive: SmolLM2's perplexity would rise by a fifth.
"""

import torch
from torch.nn import functional

from baton.engine.quant.int4_weight_only import grouped, nearest_levels
from baton.engine.quant.int8 import LEVELS, SCALE_MIN

STRETCH_CHANNELS = 64
"""Of an activation row, that share a scale: so many products of 127 * 127 fit float32 exactly."""

LEVEL_PARTS = 256  # of a level: what steps and starts count


class Int4Linear:
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """weight [out, in], bias [out], float32."""
        self._bias = bias
        self._channels = weight.shape[1]
        levels, self._scales = weight_levels(weight)  # [out, in], [out]
        missing = -self._channels % STRETCH_CHANNELS
        padded = functional.pad(levels, (0, missing))
        # [stretches, channels of one, out]
        self._levels = padded.reshape(len(weight), -1, STRETCH_CHANNELS).permute(1, 2, 0).char()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[T, in] float32 -> [T, out] float32."""
        missing = -self._channels % STRETCH_CHANNELS
        stretches = functional.pad(x, (0, missing)).reshape(len(x), -1, STRETCH_CHANNELS)
        most = stretches.abs().amax(2, keepdim=True).clamp_min_(SCALE_MIN)  # [T, stretches, 1]
        rows = (stretches * (LEVELS / most)).round_()
        total = torch.zeros(len(x), len(self._scales))
        for index, levels in enumerate(self._levels):
            total.addcmul_(rows[:, index] @ levels.float(), most[:, index] / LEVELS)
        total *= self._scales
        return total if self._bias is None else total.add_(self._bias)


def weight_levels(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[out, in] -> whole levels of -127 to 127 [out, in], and what one is worth [out], float32."""
    channels = weight.shape[1]
    numbers, steps, starts = nearest_levels(grouped(weight), channels)
    values = numbers * steps[..., None] + starts[..., None]  # [out, groups, 32]
    most = values.flatten(1)[:, :channels].abs().amax(1).clamp_min_(SCALE_MIN)
    parts = (LEVEL_PARTS * LEVELS / most)[:, None]
    steps, starts = (steps * parts).round_(), (starts * parts).round_() + LEVEL_PARTS // 2
    levels = ((numbers * steps[..., None] + starts[..., None]) / LEVEL_PARTS).floor_()
    return levels.flatten(1)[:, :channels], most / LEVELS
