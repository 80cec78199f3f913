"""The linear layer with 8-bit weights and bfloat16 activations: one scale per output.

Half the memory of bfloat16, and no activation ever loses its small channels. The integers are exact
in bfloat16, so both ways, torch's kernel and plain torch, find the same product up to its rounding.
"""

import torch
from torch.nn import functional

LEVELS = 127  # -127..127
# A row of zeros has no scale; this one keeps it zeros.
SCALE_MIN = 1e-30
# The kernel reads the weights anew every four rows; above this, converting them once is faster.
KERNEL_ROWS_MAX = 32
# The kernel loads 16 channels at a time and has no remainder loop.
KERNEL_CHANNELS = 16


class Int8WeightLinear:
    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, *, kernel: bool | None = None
    ) -> None:
        """weight [out, in], bias [out], float32. `kernel`: None takes it where it fits."""
        fits = weight.shape[1] % KERNEL_CHANNELS == 0
        self._kernel = fits if kernel is None else kernel
        self._bias = bias
        self._scales = weight.abs().amax(1).clamp_min_(SCALE_MIN).div_(LEVELS)  # [out]
        self._levels = (weight / self._scales[:, None]).round_().to(torch.int8)  # [out, in]
        # The kernel wants scales in bfloat16, an error for every weight of a row: ours come after.
        self._ones = torch.ones(len(weight), dtype=torch.bfloat16)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[T, in] float32 -> [T, out] float32."""
        product = self._product(x.bfloat16()).float()
        if self._bias is None:
            return product.mul_(self._scales)
        return torch.addcmul(self._bias, product, self._scales)

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        """[T, in] -> products with the levels [T, out], both bfloat16."""
        if self._kernel and len(x) <= KERNEL_ROWS_MAX:
            return torch._weight_int8pack_mm(x.contiguous(), self._levels, self._ones)
        return functional.linear(x, self._levels.bfloat16())
