"""Compiles our Triton kernels for a Hopper GPU on a machine that has none, by the toolchain in
Triton's wheel, and prints what came out: a JSON line per kernel.

Run as a program in a process of its own, without the interpreter. Launches go to the compiler with
the arguments that the public functions give them. Knows kernels as callers see them.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
import triton
from baton.engine.cuda.kernels import activation, attention, norm, rope, sampling
from baton.engine.cuda.linear import Activations, Workspace, round_rows
from baton.engine.cuda.moe import DeviceMoe, MoeBuffers, pack_experts, pack_router
from baton.engine.cuda.pack import pack_linear
from baton.engine.cuda.shapes import QWEN3_30B_A3B
from baton.engine.quant.quantization import CUDA_SCHEMES, Quantization
from baton.engine.weights.parts import ExpertPart, expert_shape
from baton.model.config import ModelConfig
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

HOPPER = GPUTarget("cuda", 90, 32)
BF16, FP8, I32, F32 = torch.bfloat16, torch.float8_e4m3fn, torch.int32, torch.float32
CPU = torch.device("cpu")
H200_PROCESSORS = 132
WAIT = "ACQBULK"
"""Until the kernels ahead have ended; programs of the next one may start after PREEXIT."""
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z]\w*(?:\.\w+)*)")
LEFT = re.compile(r"WARPGROUP\.DEPBAR\.LE gsb0, 0x([0-9a-f]+)")
LLAMA = {"hidden": 4096, "intermediate": 14336, "heads": 32, "kv_heads": 8, "head_size": 128}


@dataclass(frozen=True, slots=True)
class Compiled:
    """What one launch would run."""

    case: str
    kernel: str
    warps: int
    registers: int  # of a thread
    stack_bytes: int  # of a thread: what does not fit into registers
    shared_bytes: int
    instructions: tuple[str, ...]  # of those that matter
    prelude: tuple[str, ...] | None  # machine code up to the wait for kernels ahead; None: no wait
    left_under_way: tuple[int, ...]  # matrix instructions, behind each wait for them


class NoDevice:
    """As much of a driver as the compiler asks for."""

    def get_current_target(self) -> GPUTarget:
        return HOPPER

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _: int) -> int:
        return 0


class Compiler:
    """Takes the place of every launch."""

    def __init__(self) -> None:
        self.found: list[Compiled] = []
        self.case = ""
        self._seen: set[int] = set()
        run = JITFunction.run

        def compiled(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
            one = run(kernel, *args, grid=grid, warmup=True, **kwargs)
            if id(one) not in self._seen:  # Triton keeps what it has compiled
                self._seen.add(id(one))
                self.found.append(self._facts(kernel.__name__, one))
            return one

        JITFunction.run = compiled
        driver.set_active(NoDevice())

    def _facts(self, name: str, one: Any) -> Compiled:
        registers, stack = resources(one.asm["cubin"])
        text = one.asm["ptx"]
        words = ("wgmma", "mma.sync", "cp.async", "ld.global.v4", "f64")
        return Compiled(
            case=self.case,
            kernel=name,
            warps=one.metadata.num_warps,
            registers=registers,
            stack_bytes=stack,
            shared_bytes=one.metadata.shared,
            instructions=tuple(word for word in words if word in text),
            prelude=prelude(machine_code(one.asm["cubin"])),
            left_under_way=left_under_way(one.asm["cubin"]),
        )


def told_of(cubin: bytes, question: str) -> str:
    """What NVIDIA's tool in Triton's wheel says."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        command = [triton.knobs.nvidia.cuobjdump.path, question, str(path)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def resources(cubin: bytes) -> tuple[int, int]:
    """Registers and bytes of stack of a thread."""
    found = re.search(r"REG:(\d+) STACK:(\d+)", told_of(cubin, "--dump-resource-usage"))
    assert found is not None
    return int(found[1]), int(found[2])


def machine_code(cubin: bytes) -> list[str]:
    """Names of a kernel's instructions, in order."""
    return INSTRUCTION.findall(told_of(cubin, "--dump-sass"))


def prelude(instructions: list[str]) -> tuple[str, ...] | None:
    waits = [at for at, name in enumerate(instructions) if name.startswith(WAIT)]
    return tuple(instructions[: waits[0]]) if waits else None


def left_under_way(cubin: bytes) -> tuple[int, ...]:
    return tuple(int(found, 16) for found in LEFT.findall(told_of(cubin, "--dump-sass")))


def zeros(*shape: int, dtype: torch.dtype = BF16) -> torch.Tensor:
    return torch.zeros(*shape, dtype=dtype)


def ints(*shape: int, shifted: bool = False) -> torch.Tensor:
    """`shifted`: not where 16 bytes begin, as a step's arrays may lie."""
    flat = zeros(1 + torch.Size(shape).numel(), dtype=I32)
    return (flat[1:] if shifted else flat[:-1]).view(shape)


def rows() -> Iterator[str]:
    """Norm and activation."""
    hidden, wide = LLAMA["hidden"], LLAMA["intermediate"]
    residual = zeros(2, hidden, dtype=F32)
    weight, delta, gate_up = zeros(hidden), zeros(2, hidden), zeros(2, 2 * wide)
    yield "bf16"
    norm.add_rms_norm(delta, residual, weight, 1e-5, zeros(2, hidden))
    activation.silu_mul(gate_up, zeros(2, wide))
    for dtype in (FP8, torch.int8):
        yield str(dtype)
        scale = zeros(2, dtype=F32)
        norm.add_rms_norm(delta, residual, weight, 1e-5, zeros(2, hidden, dtype=dtype), scale)
        activation.silu_mul(gate_up, zeros(2, wide, dtype=dtype), scale)
        activation.quantize_rows(delta, zeros(2, hidden, dtype=dtype), scale)


def caches() -> Iterator[tuple[torch.Tensor, rope.KvScales | None]]:
    """One side of a layer's cache, of every type."""
    place = (4, 16, LLAMA["kv_heads"])
    for dtype in (BF16, FP8, torch.int8):
        scales = None if dtype is BF16 else (zeros(*place, dtype=F32), zeros(*place, dtype=F32))
        yield zeros(*place, LLAMA["head_size"], dtype=dtype), scales


def rotation() -> Iterator[str]:
    heads, kv_heads, size = LLAMA["heads"], LLAMA["kv_heads"], LLAMA["head_size"]
    qkv, table, q = (
        zeros(4, (heads + 2 * kv_heads) * size),
        zeros(64, size, dtype=F32),
        zeros(4, heads, size),
    )
    for side, scales in caches():
        for shifted in (False, True):
            yield f"{side.dtype}{' again' if shifted else ''}"
            at = ints(4, shifted=shifted)
            rope.rotate_and_store(
                qkv, at, table, at, side, side, scales, q, zeros(2, size) if scales else None, 1e-5
            )


def step(sequences: int, width: int, *, shifted: bool = False) -> Any:
    return SimpleNamespace(
        query_starts=ints(sequences + 1, shifted=shifted),
        context_lengths=ints(sequences, shifted=shifted),
        block_tables=ints(sequences, width, shifted=shifted),
    )


def attend(
    side: torch.Tensor, scales: rope.KvScales | None, inputs: Any, splits: int, window: int | None
) -> None:
    """A mixed step: both kernels."""
    q = zeros(64, LLAMA["heads"], LLAMA["head_size"])
    workspace = attention.SplitWorkspace.allocate(parts=2048, head_size=q.shape[2], device=CPU)
    attention.attend(
        q,
        side,
        side,
        scales,
        inputs,
        torch.empty_like(q),
        window=window,
        rows_max=60,
        splits=splits,
        workspace=workspace,
    )


def attending() -> Iterator[str]:
    for side, scales in caches():
        yield str(side.dtype)
        attend(side, scales, step(2, 32), 3, None)
        if scales is None:
            yield f"{side.dtype} again"
            attend(side, scales, step(3, 31, shifted=True), 4, None)
            attend(side, scales, step(1, 16), 2, None)
            yield f"{side.dtype} in one part"
            attend(side, scales, step(2, 32), 1, None)
            yield f"{side.dtype} with a window"
            attend(side, scales, step(2, 32), 3, 4096)


def choosing() -> Iterator[str]:
    vocab = 128_256
    workspace = sampling.SamplingWorkspace.allocate(rows=4, vocab=vocab, device=CPU)
    for shifted in (False, True):
        yield "again" if shifted else ""
        some = ints(4, shifted=shifted)
        real, seeds = some.view(F32), zeros(5, dtype=torch.int64)[shifted : 4 + shifted]
        params = sampling.DrawParams(real, some, real, real, seeds, some)
        logits = zeros(4, vocab, dtype=F32)
        sampling.likeliest(logits, some, some, workspace)
        sampling.draw(logits, params, some, some, workspace)


def multiplying() -> Iterator[str]:
    """Linear layers; of many rows those that the vendor's library does not take."""
    outputs, inputs = 1024, LLAMA["hidden"]
    workspace = Workspace(CPU, processors=H200_PROCESSORS)
    for scheme in CUDA_SCHEMES:
        if scheme is Quantization.NONE:  # float32 is for tests
            continue
        layer = pack_linear(zeros(outputs, inputs, dtype=F32), None, scheme, CPU, workspace)
        held = layer.takes.dtype
        for rows in (1, 2, 64, 128):
            yield f"{scheme.value} of {rows}{' again' if rows == 2 else ''}"
            x = Activations(zeros(rows, inputs))
            if held is not None:
                into = Activations(zeros(rows, inputs, dtype=held), zeros(rows, dtype=F32))
                x = round_rows(x.values, into, rotated=layer.rotated)
            layer(x, zeros(rows, outputs))


def mixing() -> Iterator[str]:
    """A mixture of experts of Qwen3-30B-A3B's shape, with fewer experts."""
    config = replace(QWEN3_30B_A3B, experts=16)
    mixture = mixture_of_zeros(config, Quantization.BF16, rows_max=64)
    for rows in (1, 64):
        yield f"mixture of {rows}"
        mixture(zeros(rows, config.hidden_size), zeros(rows, config.hidden_size), None)


def mixture_of_zeros(config: ModelConfig, scheme: Quantization, *, rows_max: int) -> DeviceMoe:
    weight = zeros(config.experts, config.hidden_size, dtype=F32)

    def fetch(part: ExpertPart, _: int) -> torch.Tensor:
        return zeros(*expert_shape(part, config), dtype=F32)

    return DeviceMoe(
        config,
        pack_router(weight, scheme, CPU, Workspace(CPU, processors=H200_PROCESSORS)),
        pack_experts(fetch, config, scheme, CPU),
        MoeBuffers(config, scheme, rows_max=rows_max, dtype=BF16, device=CPU),
    )


def main() -> None:
    compiler = Compiler()
    # each yields the name of a case before it launches the case's kernels
    for compiler.case in chain(
        rows(), rotation(), attending(), choosing(), multiplying(), mixing()
    ):
        pass
    for one in compiler.found:
        json.dump(asdict(one), sys.stdout)
        print()


if __name__ == "__main__":
    main()
