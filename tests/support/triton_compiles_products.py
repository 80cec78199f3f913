"""The products' share of `triton_compiles`: every scheme, at few rows and at many, and a mixture.

Run as a program in a process of its own, without the interpreter. Knows kernels as callers see
them.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace

import torch
from baton.engine.cuda.kernels.matmul_rows import turn_rows
from baton.engine.cuda.linear import ActivationKind, Activations, Workspace
from baton.engine.cuda.pack import pack_linear
from baton.engine.cuda.shapes import QWEN3_30B_A3B
from baton.engine.quant.quantization import Quantization

from support.triton_compiles import (
    BF16,
    CPU,
    F32,
    H200_PROCESSORS,
    Compiler,
    mixture_of_zeros,
    zeros,
)

OUTPUTS, INPUTS = 256, 4_096
ROWS = {
    Quantization.BF16: (1, 64),
    Quantization.FP8: (1, 128),
    Quantization.INT8: (64,),
    Quantization.INT8_WEIGHT_ONLY: (1, 64),
    Quantization.INT4_WEIGHT_ONLY: (1, 64, 128),
}
"""One row, the most that are few, and more (of bfloat16: the router below). Outputs are few: they
change no kernel."""


def products() -> Iterator[str]:
    workspace = Workspace(CPU, H200_PROCESSORS)
    for scheme, batches in ROWS.items():
        layer = pack_linear(zeros(OUTPUTS, INPUTS), zeros(OUTPUTS), scheme, CPU, workspace)
        kind, scaled = layer.takes.dtype or BF16, layer.takes is not ActivationKind.PLAIN
        for rows in batches:
            yield f"{scheme.value}, {rows} rows"
            scales = zeros(rows, dtype=F32) if scaled else None
            # float32, as of the head: the vendor's product is not asked
            layer(
                Activations(zeros(rows, INPUTS, dtype=kind), scales),
                zeros(rows, OUTPUTS, dtype=F32),
            )
    yield "int8 rows"
    turn_rows(
        zeros(2, INPUTS),
        zeros(2, INPUTS, dtype=torch.int8),
        zeros(2, dtype=F32),
        rotated=64,
    )


def mixtures() -> Iterator[str]:
    experts, hidden, inner = 64, 1_024, 512
    config = replace(
        QWEN3_30B_A3B, experts=experts, hidden_size=hidden, expert_intermediate_size=inner
    )
    for scheme, batches in (
        (Quantization.BF16, (1, 2_048)),
        (Quantization.INT8, (256,)),
        (Quantization.INT8_WEIGHT_ONLY, (1, 256)),
        (Quantization.INT4_WEIGHT_ONLY, (256,)),
    ):
        mixture = mixture_of_zeros(config, scheme, rows_max=2_048)
        for rows in batches:
            yield f"mixture {scheme.value}, {rows} rows"
            slots = zeros(rows, dtype=torch.int32)
            mixture(zeros(rows, hidden), zeros(rows, hidden), slots)


def main() -> None:
    compiler = Compiler()
    for cases in (products(), mixtures()):
        for compiler.case in cases:
            pass
    for one in compiler.found:
        json.dump(asdict(one), sys.stdout)
        print()


if __name__ == "__main__":
    main()
