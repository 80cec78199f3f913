"""Which variants of our Triton kernels the steps of a CUDA runner need that building it did not
launch: a JSON line for each of some runners. On a device, the first such step would wait for the
compiler.

Run as a program in a process of its own, without the interpreter. A launch ends where Triton would
look for what it has compiled: the key is its own, and nothing is compiled or computed. Knows steps;
knows no kernel.
"""

import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from baton.engine.batch import BatchSlice, SampleRequest, StepBatch
from baton.engine.cuda.build import CudaParts, RunnerSpec, build_cuda_runner
from baton.engine.params import SamplingParams
from baton.engine.quant.quantization import Quantization
from baton.engine.weights.random_weights import RandomWeights
from baton.model.config import Family, ModelConfig
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from support.fake_device import FakeDevice
from support.triton_compiles import NoDevice

STEPS = 400
BLOCK_SIZE = 16
TABLE = list(range(16))
GREEDY = SamplingParams(1, temperature=0.0)
DRAWN = SamplingParams(1, temperature=0.8, top_k=20, top_p=0.9, min_p=0.1, seed=3)

DENSE = ModelConfig(
    family=Family.LLAMA,
    vocab_size=72,
    hidden_size=72,  # no multiple of 16: every product is our own, the vendor's none
    intermediate_size=200,
    layers=2,
    heads=8,
    kv_heads=2,
    head_size=16,
    context_length=len(TABLE) * BLOCK_SIZE,
    rms_norm_eps=1e-6,
    rope_theta=10_000.0,
    sliding_window=32,
    sliding_layers=(1,),
)
MIXTURE = replace(
    DENSE,
    family=Family.QWEN3_MOE,
    layers=1,
    sliding_window=None,
    sliding_layers=(),
    qk_norm=True,
    experts=100,
    experts_per_token=6,
    expert_intermediate_size=32,
)


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    config: ModelConfig
    quantization: Quantization
    kv_dtype: str
    rows_max: int
    sequences_max: int
    processors: int = 132  # an H200's


CASES = (
    Case("bf16", DENSE, Quantization.BF16, "bfloat16", 300, 40),
    Case("int8", DENSE, Quantization.INT8, "int8", 200, 5),
    # from 27 to 30 sequences contexts are not cut, and no graph is of such a size
    Case("few-processors", DENSE, Quantization.BF16, "bfloat16", 64, 32, processors=15),
    Case("int4", DENSE, Quantization.INT4_WEIGHT_ONLY, "bfloat16", 100, 9),
    Case("fp8", DENSE, Quantization.FP8, "fp8", 150, 1),
    Case("mixture", MIXTURE, Quantization.BF16, "bfloat16", 2_500, 7),
    Case("mixture-int8", MIXTURE, Quantization.INT8, "int8", 100, 40),
)


class Launches:
    """Takes the place of every launch, and notes what it would run."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()

        def noted(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
            del grid, warmup  # no part of a variant
            *_, binder = kernel.device_caches[driver.active.get_current_device()]
            kwargs["debug"] = kernel.debug
            _, specialization, options = binder(*args, **kwargs)
            self.seen.add((kernel.__name__, f"{specialization} {options}"))

        JITFunction.run = noted
        driver.set_active(NoDevice())


def built(case: Case) -> CudaParts:
    device = FakeDevice()
    device.processors = case.processors
    spec = RunnerSpec(
        quantization=case.quantization,
        kv_dtype=case.kv_dtype,
        block_size=BLOCK_SIZE,
        rows_max=case.rows_max,
        sequences_max=case.sequences_max,
        memory_fraction=0.9,
    )
    return build_cuda_runner(
        RandomWeights(case.config, 1), case.config, spec, device, lambda *_: None
    )


def steps(case: Case, luck: random.Random) -> Iterator[StepBatch]:
    """Any mixture of decode, guesses and pieces of prompts that fits; some are greedy, some drawn,
    some score their prompt."""
    for _ in range(STEPS):
        left = luck.randint(1, case.rows_max)
        slices: list[BatchSlice] = []
        longest = luck.choice((1, 4, 8, case.rows_max))
        params = luck.choice((GREEDY, DRAWN))
        for _ in range(luck.randint(1, case.sequences_max)):
            rows = luck.randint(1, min(longest, left, case.config.context_length))
            slices.append(piece(rows, params, luck, case.config))
            left -= rows
            if not left:
                break
        yield StepBatch(tuple(slices))


def piece(
    rows: int, params: SamplingParams, luck: random.Random, config: ModelConfig
) -> BatchSlice:
    tokens = [luck.randrange(config.vocab_size) for _ in range(rows)]
    start = luck.randint(0, config.context_length - rows)
    sample = SampleRequest(params, tokens, (), ()) if luck.random() < 0.9 else None
    guesses = luck.randint(0, min(rows - 1, 4)) if sample else 0
    scored = luck.random() < 0.1
    return BatchSlice(
        str(luck.random()),
        tokens,
        start,
        TABLE,
        sample,
        prompt_logprobs=1 if scored else None,
        next_token_ids=tokens[1:] if scored else (),
        guesses=guesses,
    )


def main() -> None:
    launches = Launches()
    for case in CASES:
        launches.seen.clear()
        runner = built(case).runner
        warm = set(launches.seen)
        launches.seen.clear()
        for step in steps(case, random.Random(case.name)):
            runner.run(step)
        told = {
            "case": case.name,
            "warm": len(warm),
            "stepped": len(launches.seen),
            "missing": sorted(launches.seen - warm),
        }
        json.dump(told, sys.stdout)
        print()


if __name__ == "__main__":
    main()
