"""The 8-bit linear layer: symmetric scales, one per output (weights) and per token (activations).

A token's scale depends on that token alone, so a row's result does not depend on its neighbours in
the batch. Two ways to the same integers: oneDNN's kernel, and plain torch where it is missing.

Activations have a few channels far larger than the rest, which would cost all others their levels.
An orthogonal rotation of weights (once) and activations (each call) spreads them over their block
and leaves the product as it is: on SmolLM2 the divergence from float32 falls from 0.049 to 0.006.
"""

import math

import torch

from baton.engine.quant.schemes import ROTATED_CHANNELS

LEVELS = 127  # -127..127: symmetric, so that no product needs a zero point
ZERO_POINT = 128  # oneDNN's fast kernel wants unsigned activations
# A row of zeros has no scale; this one keeps it zeros.
SCALE_MIN = 1e-30
# float32 adds integers exactly below 2**24: so many products of 127 * 127 fit into one partial sum.
EXACT_TERMS = 1024


def kernel_available() -> bool:
    """Whether oneDNN's kernel is there and exact: without VNNI it may saturate its 16-bit sums."""
    return hasattr(torch.ops.onednn, "qlinear_pointwise") and torch.cpu._is_vnni_supported()


class Int8Linear:
    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, *, kernel: bool | None = None
    ) -> None:
        """weight [out, in], bias [out], float32. `kernel`: None takes what the machine has."""
        self._kernel = kernel_available() if kernel is None else kernel
        self._bias = bias
        self._rotated = math.gcd(weight.shape[1], ROTATED_CHANNELS)
        weight = rotated(weight, self._rotated)
        self._scales = weight.abs().amax(1).clamp_min_(SCALE_MIN).div_(LEVELS)  # [out]
        self._levels = (weight / self._scales[:, None]).round_().to(torch.int8)  # [out, in]
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        if self._kernel:
            self._levels = torch.ops.onednn.qlinear_prepack(self._levels, None)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[T, in] float32 -> [T, out] float32."""
        x = rotated(x, self._rotated)
        row_scales = x.abs().amax(1, keepdim=True).clamp_min_(SCALE_MIN).div_(LEVELS)  # [T, 1]
        levels = (x / row_scales).round_()
        product = self._fast(levels) if self._kernel else self._plain(levels)
        if self._bias is None:
            return product.mul_(row_scales)
        return torch.addcmul(self._bias, product, row_scales)

    def _fast(self, levels: torch.Tensor) -> torch.Tensor:
        """levels [T, in], whole numbers -> products in units of the rows' scales [T, out]."""
        product: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            levels.add_(ZERO_POINT).to(torch.uint8),
            1.0,  # the kernel knows one activation scale per call; ours, per row, is applied after
            ZERO_POINT,
            self._levels,
            self._scales,
            self._zeros,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        return product

    def _plain(self, levels: torch.Tensor) -> torch.Tensor:
        """As `_fast`. Exact partial sums in float32, added up as integers; converts as it goes."""
        total = torch.zeros(len(levels), len(self._scales), dtype=torch.int32)
        for first in range(0, levels.shape[1], EXACT_TERMS):
            part = slice(first, first + EXACT_TERMS)
            total += (levels[:, part] @ self._levels[:, part].float().t()).to(torch.int32)
        return total.float().mul_(self._scales)


def rotated(rows: torch.Tensor, size: int) -> torch.Tensor:
    """[R, in] -> [R, in], each block of `size` channels turned by the orthogonal Hadamard matrix.

    `size` is a power of two that divides the channels. By sums and differences in one order: a
    product with the matrix would have other last bits for other numbers of rows.
    """
    turned, half = rows, 1
    while half < size:
        pairs = turned.reshape(len(rows), -1, 2, half)
        first, second = pairs[:, :, 0], pairs[:, :, 1]
        turned = torch.stack((first + second, first - second), dim=2)
        half *= 2
    return turned.reshape(rows.shape) * math.pow(size, -0.5)
