"""The linear layers of a device: packed weights, and the product of each scheme.

Knows which scheme wants its activations in which form; knows nothing of where a layer sits in the
model, nor how weights are packed. Nothing is allocated in a call, so all of it may be captured in a
graph.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch

from baton.engine.cuda.kernels.activation import quantize_rows
from baton.engine.cuda.kernels.matmul_plan import (
    PARTIALS_MAX,
    SKINNY_ROWS_MAX,
    TILES_MAX,
    plan_matmul,
)
from baton.engine.cuda.kernels.matmul_product import Factors, multiply
from baton.engine.cuda.kernels.matmul_rows import turn_rows
from baton.engine.quant.quantization import Quantization

FP8_UNIT = 16
"""Inputs and outputs of the vendor's 8-bit product come in multiples of this."""


class ActivationKind(Enum):
    """The form in which a linear layer takes its rows."""

    PLAIN = "plain"  # as they are: bfloat16, or float32 for layers in float32
    FP8 = "fp8"  # float8_e4m3fn, with a float32 scale per row
    INT8 = "int8"  # int8 levels, with a float32 scale per row, of rows turned by `rotated`

    @property
    def dtype(self) -> torch.dtype | None:
        """What such rows are held in; None: whatever the model computes in."""
        return {ActivationKind.FP8: torch.float8_e4m3fn, ActivationKind.INT8: torch.int8}.get(self)


@dataclass(frozen=True, slots=True)
class Activations:
    """Rows in the form a layer takes them."""

    values: torch.Tensor  # [T, inputs]
    scales: torch.Tensor | None = None  # [T] float32; None for plain rows


class Workspace:
    """What all products of one stream share while they run, one after the other: made once."""

    def __init__(self, device: torch.device, processors: int) -> None:
        """`processors`: multiprocessors of the device."""
        self.partials = torch.empty(PARTIALS_MAX, dtype=torch.float32, device=device)
        # every product leaves its counters at zero, as it found them
        self.counters = torch.zeros(TILES_MAX, dtype=torch.int32, device=device)
        self.processors = processors


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A weight [outputs, inputs] as its scheme holds it, on the device.

    int4: two channels a byte (`pack.paired_levels`), in groups of 32 with a scale and a minimum
    each. Everything else: one value per channel, a scale per output where it has any.
    """

    scheme: Quantization
    outputs: int
    inputs: int
    values: torch.Tensor  # [outputs, inputs]; int4: uint8 [outputs, bytes]
    scales: torch.Tensor | None = None  # [outputs] float32; int4: [outputs, groups] float16
    minima: torch.Tensor | None = None  # int4: [outputs, groups] float16
    rotated: int = 1  # int8: channels turned together

    @property
    def bits(self) -> int:
        """Of one weight in memory, scales aside."""
        return 8 * self.values.element_size() * self.values.shape[-1] // self.inputs


class DeviceLinear(Protocol):
    """A linear layer on the device. Rows are independent: no scale is shared between them."""

    @property
    def inputs(self) -> int: ...

    @property
    def outputs(self) -> int: ...

    @property
    def takes(self) -> ActivationKind: ...

    @property
    def rotated(self) -> int:
        """Channels of an int8 row that are turned together before it is rounded; 1: none."""
        ...

    def __call__(self, x: Activations, out: torch.Tensor) -> None:
        """x [T, inputs] -> out [T, outputs] in bfloat16 or float32, both contiguous in a row."""
        ...


class PackedLinear:
    """Implements DeviceLinear for every scheme."""

    def __init__(
        self, weight: PackedWeight, bias: torch.Tensor | None, workspace: Workspace
    ) -> None:
        """bias [outputs]: float32."""
        self.weight, self._bias, self._workspace = weight, bias, workspace
        self.inputs, self.outputs = weight.inputs, weight.outputs
        self.takes = activation_kind(weight.scheme)
        self.rotated = weight.rotated
        # the vendor's products add their bias in the type they compute in
        near = torch.float32 if weight.scheme is Quantization.NONE else torch.bfloat16
        self._near_bias = None if bias is None else bias.to(near)

    def __call__(self, x: Activations, out: torch.Tensor) -> None:
        if self._vendor_is_faster(x, out):
            self._vendor_product(x, out)
            return
        weight, workspace = self.weight, self._workspace
        plan = plan_matmul(
            len(x.values),
            self.outputs,
            self.inputs,
            weight_bits=weight.bits,
            processors=workspace.processors,
        )
        multiply(
            x.values,
            weight.values,
            Factors(x.scales, weight.scales, weight.minima, self._bias),
            out,
            plan=plan,
            partials=workspace.partials,
            counters=workspace.counters,
        )

    def _vendor_is_faster(self, x: Activations, out: torch.Tensor) -> bool:
        """Many rows in a type that cuBLAS multiplies: bound by arithmetic, where it is hard to
        beat. int8 is not among them: its sums would need a tensor and a kernel of their own."""
        if len(x.values) <= SKINNY_ROWS_MAX:
            return False
        if self.weight.scheme is Quantization.FP8:
            whole = self.inputs % FP8_UNIT == 0 and self.outputs % FP8_UNIT == 0
            return whole and out.dtype == torch.bfloat16
        plain = self.weight.scheme in (Quantization.NONE, Quantization.BF16)
        return plain and x.values.dtype == out.dtype == self.weight.values.dtype

    def _vendor_product(self, x: Activations, out: torch.Tensor) -> None:
        turned = self.weight.values.t()
        if x.scales is not None and self.weight.scales is not None:
            torch._scaled_mm(
                x.values,
                turned,
                scale_a=x.scales[:, None],
                scale_b=self.weight.scales[None, :],
                bias=self._near_bias,
                out_dtype=out.dtype,
                out=out,
            )
        elif self._near_bias is None:
            torch.mm(x.values, turned, out=out)
        else:
            torch.addmm(self._near_bias, x.values, turned, out=out)


def activation_kind(scheme: Quantization) -> ActivationKind:
    match scheme:
        case Quantization.FP8:
            return ActivationKind.FP8
        case Quantization.INT8:
            return ActivationKind.INT8
        case _:
            return ActivationKind.PLAIN


def round_rows(x: torch.Tensor, into: Activations, *, rotated: int) -> Activations:
    """x [T, inputs] in bfloat16 or float32 -> `into`, rounded as its type wants; plain ones: x."""
    if into.scales is None:
        return Activations(x)
    if rotated > 1:
        turn_rows(x, into.values, into.scales, rotated=rotated)
    else:
        quantize_rows(x, into.values, into.scales)
    return into
