"""Our kernels for tests: built once per machine; tests that need them are skipped without them."""

import os
from functools import cache

import pytest
import torch
from baton.engine.kernels.build import KernelsUnavailable, default_cache_dir
from baton.engine.kernels.library import KernelLibrary
from baton.engine.kernels.selection import open_library
from baton.engine.kernels.structs import PANEL, LinearStruct, Scheme
from baton.engine.memory import Arena
from baton.engine.models.packed import panel_order


@cache
def kernels() -> KernelLibrary:
    """The library of this machine; skips the test, with the reason, where there is none."""
    try:
        return open_library(default_cache_dir(os.environ))
    except KernelsUnavailable as error:
        pytest.skip(error.message)


class PackedLinear:
    """One linear layer on the kernels, from float32 tensors."""

    def __init__(
        self,
        weight: torch.Tensor,  # [out, in]; of a paired layer gates, then ups
        bias: torch.Tensor | None,
        scheme: Scheme,
        *,
        rotated: int = 1,
        paired: bool = False,
    ) -> None:
        self.outer = len(weight) // (2 if paired else 1)
        self.struct = LinearStruct(
            scheme=scheme, inner=weight.shape[1], outer=self.outer, rotated=rotated, paired=paired
        )
        size_bytes = kernels().weight_bytes(self.struct)
        columns = kernels().panels(self.struct) * PANEL
        self.arena = Arena(size_bytes)
        self.scales, self.sums = torch.zeros(columns), torch.zeros(columns, dtype=torch.int32)
        self.struct.weights = self.arena.take(size_bytes)
        self.struct.scales, self.struct.sums = self.scales.data_ptr(), self.sums.data_ptr()
        if bias is not None:
            self.bias = panel_order(bias.numpy(), columns, paired=paired)
            self.struct.bias = self.bias.ctypes.data
        kernels().pack(
            self.struct,
            weight.data_ptr(),
            self.struct.weights,
            self.struct.scales,
            self.struct.sums,
            2,
        )

    def __call__(
        self, x: torch.Tensor, *, onto: torch.Tensor | None = None, threads: int = 1
    ) -> torch.Tensor:
        """[rows, in] -> [rows, out], added to `onto` if given."""
        x = x.contiguous()
        y = torch.full((len(x), self.outer), float("nan")) if onto is None else onto.clone()
        kernels().linear(
            self.struct, x.data_ptr(), len(x), y.data_ptr(), add=onto is not None, threads=threads
        )
        return y
