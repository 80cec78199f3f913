"""One interface for the linear layers of every scheme, and the float32 scheme itself.

Knows which scheme keeps which types; knows nothing of where a layer sits in the model.
"""

from typing import Protocol

import torch
from torch.nn import functional

from baton.engine.quant.bf16 import Bf16Linear
from baton.engine.quant.int4 import Int4Linear
from baton.engine.quant.int4_weight_only import Int4WeightLinear
from baton.engine.quant.int8 import Int8Linear
from baton.engine.quant.int8_weight_only import Int8WeightLinear
from baton.engine.quant.quantization import Quantization, refused_on_cpu


class Linear(Protocol):
    """A linear layer. Rows are independent: no scale is shared between them."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[T, in] float32 -> [T, out] float32."""
        ...


class Fp32Linear:
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """weight [out, in], bias [out]; both float32."""
        self._weight, self._bias = weight, bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self._weight, self._bias)


def make_linear(
    weight: torch.Tensor, bias: torch.Tensor | None, quantization: Quantization
) -> Linear:
    """The layer of a scheme from float32 weights [out, in] and bias [out].

    Raises ConfigError for a scheme that only CUDA devices compute.
    """
    match quantization:
        case Quantization.NONE:
            return Fp32Linear(weight, bias)
        case Quantization.BF16:
            return Bf16Linear(weight, bias)
        case Quantization.INT8:
            return Int8Linear(weight, bias)
        case Quantization.INT4:
            return Int4Linear(weight, bias)
        case Quantization.INT8_WEIGHT_ONLY:
            return Int8WeightLinear(weight, bias)
        case Quantization.INT4_WEIGHT_ONLY:
            return Int4WeightLinear(weight, bias)
        case Quantization.FP8:
            raise refused_on_cpu(quantization)
