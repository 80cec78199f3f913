"""Triton kernels on the CPU, by Triton's interpreter: in a process of their own, where nothing has
imported Triton before. The interpreter is mended where it computes unlike a GPU."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

os.environ["TRITON_INTERPRET"] = "1"

BITS = {8: torch.uint8, 16: torch.int16, 32: torch.int32}


@pytest.fixture(autouse=True, scope="session")
def _interpreter() -> Iterator[None]:
    """bfloat16 and fp8 are rounded to the nearest, and bfloat16 products are products."""
    import triton.language as tl
    from triton.runtime import interpreter

    if not isinstance(tl.sum, interpreter.InterpretedFunction):
        pytest.fail("Triton was imported before: give tests/triton a process of their own")
    types = {
        tl.bfloat16: torch.bfloat16,
        tl.float16: torch.float16,
        tl.float32: torch.float32,
        tl.float8e4nv: torch.float8_e4m3fn,
    }
    convert, builder = interpreter._convert_float, interpreter.InterpreterBuilder
    dot, cast = builder.create_dot, builder.cast_impl

    def rounded(data: Any, source: Any, target: Any, mode: Any) -> Any:
        """As the hardware converts: to the nearest, fp8 without infinities."""
        if source not in types or target not in types:
            return convert(data, source, target, mode)
        given = torch.from_numpy(np.ascontiguousarray(data).view(_bits(source)))
        values = given.view(types[source]).to(torch.float32)
        if target == tl.float8e4nv:
            values = values.clamp(-448.0, 448.0)
        return values.to(types[target]).view(BITS[target.primitive_bitwidth]).numpy()

    def as_number(self: Any, value: Any, target: Any) -> Any:
        """Whole numbers become bfloat16 by their value, not by their bits."""
        if target.scalar == tl.bfloat16 and not value.dtype.scalar.is_floating():
            value = cast(self, value, tl.float32)
        return cast(self, value, target)

    def product(self: Any, a: Any, b: Any, d: Any, *rest: Any) -> Any:
        if a.dtype.scalar == tl.bfloat16:
            a, b = (cast(self, side, tl.float32) for side in (a, b))
        return dot(self, a, b, d, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_convert_float", rounded)
        patch.setattr(builder, "create_dot", product)
        patch.setattr(builder, "cast_impl", as_number)
        yield


def _bits(dtype: Any) -> Any:
    """The numpy type in which the interpreter keeps a type's bits, by torch's name for it."""
    return {8: np.uint8, 16: np.int16, 32: np.int32}[dtype.primitive_bitwidth]
