"""Weights as each scheme holds them on the device, rounded there, some rows at a time.

Knows how levels lie in memory; knows nothing of layers. What is held of a weight besides its packed
form is a bounded number of rows in float32, so a model need not fit in bfloat16 to be loaded in
four or eight bits.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Protocol

import torch

from baton.engine.cuda.linear import PackedLinear, PackedWeight, Workspace
from baton.engine.quant.int4_weight_only import grouped, nearest_levels
from baton.engine.quant.int8 import LEVELS, SCALE_MIN, rotated
from baton.engine.quant.quantization import Quantization, refused_on_cuda
from baton.engine.quant.schemes import ROTATED_CHANNELS
from baton.engine.weights.parts import ExpertPart, Part

CHUNK_VALUES = 1 << 25
"""Weights rounded at once: 128 MiB in float32, and a few temporaries of that size."""

PAIRED_CHANNELS = 64
"""Channels of 32 bytes of 4-bit levels, see `paired_levels`."""

ROTATED_CHANNELS_MIN = 16
"""The smallest block that tensor cores can turn."""

FP8_MAX = 448.0
"""The largest float8_e4m3fn."""


class TensorSource(Protocol):
    """A source of weights whose tensors lie on the device already."""

    def fetch(self, part: Part, layer: int | None = None) -> torch.Tensor:
        """A float32 tensor of the caller's own, of `part_shape`."""
        ...

    def fetch_expert(self, part: ExpertPart, layer: int, expert: int) -> torch.Tensor:
        """The same for a mixture, of `expert_shape`."""
        ...


def pack_linear(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scheme: Quantization,
    device: torch.device,
    workspace: Workspace,
) -> PackedLinear:
    """weight [outputs, inputs] and bias [outputs], float32, wherever they lie."""
    on_device = None if bias is None else bias.to(device=device, dtype=torch.float32)
    return PackedLinear(pack_weight(weight, scheme, device), on_device, workspace)


def pack_weight(
    weight: torch.Tensor,
    scheme: Quantization,
    device: torch.device,
    *,
    chunk_values: int = CHUNK_VALUES,
) -> PackedWeight:
    """weight [outputs, inputs] float32, wherever it lies; `chunk_values` of them at once."""
    outputs, inputs = weight.shape
    return _pack(_Source((weight,), outputs, inputs, device, chunk_values), scheme)


def pack_stacked(
    weights: Iterable[torch.Tensor],
    outputs: int,
    inputs: int,
    scheme: Quantization,
    device: torch.device,
) -> PackedWeight:
    """Weights one under the other, each asked for when the one before is packed: together they are
    [outputs, inputs]."""
    return _pack(_Source(weights, outputs, inputs, device, CHUNK_VALUES), scheme)


def _pack(source: "_Source", scheme: Quantization) -> PackedWeight:
    match scheme:
        case Quantization.NONE:
            return _plain(source, scheme, torch.float32)
        case Quantization.BF16:
            return _plain(source, scheme, torch.bfloat16)
        case Quantization.FP8:
            return _scaled(source, scheme, torch.float8_e4m3fn, FP8_MAX, 1)
        case Quantization.INT8:
            return _scaled(source, scheme, torch.int8, LEVELS, rotated_channels(source.inputs))
        case Quantization.INT8_WEIGHT_ONLY:
            return _scaled(source, scheme, torch.int8, LEVELS, 1)
        case Quantization.INT4_WEIGHT_ONLY:
            return _paired(source)
        case Quantization.INT4:
            raise refused_on_cuda(scheme)


def rotated_channels(inputs: int) -> int:
    """Channels of an int8 product turned together, as on the CPU; 1 where no block fits."""
    common = math.gcd(inputs, ROTATED_CHANNELS)
    return common if common >= ROTATED_CHANNELS_MIN else 1


def paired_levels(levels: torch.Tensor) -> torch.Tensor:
    """[outputs, groups, 32] uint8 of 0..15, an even number of groups -> bytes [outputs, groups *
    16]: of each two groups, byte j holds level j of the first low and of the second high. So a
    kernel finds 32 neighbouring channels in 32 neighbouring bytes."""
    low, high = levels[:, 0::2], levels[:, 1::2]
    return (low | (high << 4)).flatten(1)


class _Source:
    """Weights [outputs, inputs] of all together, wherever they lie."""

    def __init__(
        self,
        weights: Iterable[torch.Tensor],
        outputs: int,
        inputs: int,
        device: torch.device,
        chunk_values: int,
    ) -> None:
        self._weights, self._rows = weights, max(1, chunk_values // inputs)
        self.outputs, self.inputs, self.device = outputs, inputs, device

    def empty(self, width: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(self.outputs, width, dtype=dtype, device=self.device)

    def parts(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Some rows at a time, in float32 on the device."""
        done = 0
        for weight in self._weights:
            for first in range(0, len(weight), self._rows):
                part = weight[first : first + self._rows]
                rows = slice(done, done + len(part))
                yield rows, part.to(device=self.device, dtype=torch.float32)
                done = rows.stop
        assert done == self.outputs


def _plain(source: _Source, scheme: Quantization, dtype: torch.dtype) -> PackedWeight:
    values = source.empty(source.inputs, dtype)
    for rows, part in source.parts():
        values[rows] = part.to(dtype)
    return PackedWeight(scheme, source.outputs, source.inputs, values)


def _scaled(
    source: _Source, scheme: Quantization, dtype: torch.dtype, largest: float, block: int
) -> PackedWeight:
    """Levels of `dtype` with a scale per output, of channels turned in blocks of `block`."""
    values = source.empty(source.inputs, dtype)
    scales = source.empty(1, torch.float32).squeeze(1)
    for rows, part in source.parts():
        turned = rotated(part, block)
        scales[rows] = turned.abs().amax(1).clamp_min_(SCALE_MIN).div_(largest)
        levels = (turned / scales[rows, None]).clamp_(-largest, largest)
        values[rows] = (levels.round_() if dtype == torch.int8 else levels).to(dtype)
    return PackedWeight(scheme, source.outputs, source.inputs, values, scales, rotated=block)


def _paired(source: _Source) -> PackedWeight:
    groups = -(-source.inputs // PAIRED_CHANNELS) * 2
    values = source.empty(groups * 16, torch.uint8)
    # groups past the end: level, scale and minimum are 0
    scales = source.empty(groups, torch.float16).zero_()
    minima = torch.zeros_like(scales)
    for rows, part in source.parts():
        levels, scale, minimum = nearest_levels(grouped(part), source.inputs)
        found = levels.shape[1]
        scales[rows, :found], minima[rows, :found] = scale.half(), minimum.half()
        padded = torch.zeros(len(levels), groups, 32, dtype=torch.uint8, device=source.device)
        padded[:, :found] = levels
        values[rows] = paired_levels(padded)
    scheme = Quantization.INT4_WEIGHT_ONLY
    return PackedWeight(scheme, source.outputs, source.inputs, values, scales, minima)
