"""The bfloat16 linear layer: weights packed once for oneDNN where it can, plain torch elsewhere.

Products are accumulated in float32 by the kernels and rounded once, at the output.
"""

import torch
from torch.nn import functional


def packing_available() -> bool:
    """Whether this build and processor have oneDNN's packed bfloat16 product."""
    built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(built and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Bf16Linear:
    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, *, packed: bool | None = None
    ) -> None:
        """weight [out, in], bias [out], float32. `packed`: None takes what the machine has."""
        self._packed = packing_available() if packed is None else packed
        self._bias = None if bias is None else bias.bfloat16()
        self._weight = weight.bfloat16()
        if self._packed:
            # oneDNN's own order of the same values: 1.8 to 2.4 times faster at one row
            with torch.no_grad():
                self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, None)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[T, in] float32 -> [T, out] float32."""
        rounded = x.bfloat16()
        if not self._packed:
            return functional.linear(rounded, self._weight, self._bias).float()
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            rounded, self._weight, self._bias, "none", [], ""
        )
        return product.float()
