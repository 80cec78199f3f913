"""The linear layer with 4-bit weights and bfloat16 activations: a scale and a zero per 32 weights.

The smallest of the schemes: 5 bits a weight. GGUF's Q4_0 and Q4_1 group in the same way, so their
levels come through as they were written. Our kernels find the same levels (source/pack.h) and keep
scales in float16; torch's product takes bfloat16 only, which costs it the scales' last bits.
"""

import torch
from torch.nn import functional

GROUP_CHANNELS = 32  # as GGUF's blocks
LEVEL_MAX = 15
# A weight is (level - 8) * scale + zero: torch's convention.
LEVEL_OF_ZERO = 8
# The kernel computes 16 outputs at a time and has no remainder loop.
KERNEL_OUTPUTS = 16


def kernel_fits(outputs: int, channels: int) -> bool:
    return outputs % KERNEL_OUTPUTS == 0 and channels % GROUP_CHANNELS == 0


class Int4WeightLinear:
    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, *, kernel: bool | None = None
    ) -> None:
        """weight [out, in], bias [out], float32. `kernel`: None takes it where it fits."""
        self._kernel = kernel_fits(*weight.shape) if kernel is None else kernel
        self._bias = bias
        self._channels = weight.shape[1]
        levels, scales, minima = nearest_levels(grouped(weight), self._channels)
        zeros = minima + LEVEL_OF_ZERO * scales
        if self._kernel:
            packable = levels.flatten(1).to(torch.int32)
            self._levels = torch._convert_weight_to_int4pack_for_cpu(packable, 1)
        else:
            self._levels = levels
        # [groups, out, 2], the kernel's order
        self._scales_and_zeros = (
            torch.stack((scales, zeros), -1).bfloat16().transpose(0, 1).contiguous()
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[T, in] float32 -> [T, out] float32."""
        rounded = x.bfloat16()
        product = self._fast(rounded) if self._kernel else self._plain(rounded)
        return product if self._bias is None else product.add_(self._bias)

    def _fast(self, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch._weight_int4pack_mm_for_cpu(
            x.contiguous(), self._levels, GROUP_CHANNELS, self._scales_and_zeros
        )
        return product.float()

    def _plain(self, x: torch.Tensor) -> torch.Tensor:
        """As `_fast`: weights in float32 for this call, the product rounded to bfloat16 once."""
        scales, zeros = self._scales_and_zeros.float().transpose(0, 1)[..., None, :].unbind(-1)
        weight = (self._levels.float() - LEVEL_OF_ZERO) * scales + zeros  # [out, groups, 32]
        weight = weight.flatten(1)[:, : self._channels]
        return functional.linear(x.float(), weight).bfloat16().float()


def grouped(weight: torch.Tensor) -> torch.Tensor:
    """[out, in] -> [out, groups, 32]; a last group that is not full repeats its last channel."""
    missing = -weight.shape[1] % GROUP_CHANNELS
    if missing:
        weight = torch.cat((weight, weight[:, -1:].expand(-1, missing)), 1)
    return weight.reshape(len(weight), -1, GROUP_CHANNELS)


def nearest_levels(
    groups: torch.Tensor, channels: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """[out, groups, 32], the first `channels` of them weights -> levels uint8 (the same shape),
    scales and minima [out, groups], float32 of values that float16 holds.

    The better of two grids: from the lowest to the highest weight, as Q4_1 has it, or eight steps
    to the weight of largest size, as Q4_0.
    """
    low, high = groups.aminmax(dim=2, keepdim=True)
    largest = torch.where(-low > high, low, high)
    whole = _Grid(groups, (high - low) / LEVEL_MAX, low)
    centred = _Grid(groups, largest / -LEVEL_OF_ZERO, largest)
    better = centred.error(groups, channels) < whole.error(groups, channels)  # [out, groups, 1]
    levels = torch.where(better, centred.levels, whole.levels)
    scales = torch.where(better, centred.scales, whole.scales)
    minima = torch.where(better, centred.minima, whole.minima)
    return levels.to(torch.uint8), scales.squeeze(2), minima.squeeze(2)


class _Grid:
    """Groups [out, groups, 32] on the levels of a scale and a minimum, both [out, groups, 1]."""

    def __init__(self, groups: torch.Tensor, scales: torch.Tensor, minima: torch.Tensor) -> None:
        self.scales, self.minima = scales.half().float(), minima.half().float()
        steps = ((groups - self.minima) / self.scales).round_().clamp_(0, LEVEL_MAX)
        self.levels = torch.where(self.scales == 0, 0.0, steps)

    def error(self, groups: torch.Tensor, channels: int) -> torch.Tensor:
        """Sums of squares [out, groups, 1]."""
        off = (self.levels * self.scales + self.minima - groups).square_()
        off.flatten(1)[:, channels:] = 0.0
        return off.sum(2, keepdim=True)
