"""A yardstick of decoding on this machine: the model's linear layers in torch, and nothing else.

A decode step of M requests multiplies M rows with every weight of the model once; whatever else a
server does comes on top. So `M / seconds of one such pass` is the tokens per second that no server
on torch's kernels can beat, measured in the same run and on the same cores as the server itself.
Weights are random: the time of a product does not depend on its numbers. The best pass counts, on
one thread or all: a limit is what the cores can do, not what a busy neighbour left of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from baton.common.clock import Clock
from baton.engine.quant.linear import Linear, make_linear
from baton.engine.quant.quantization import Quantization
from baton.model.config import ModelConfig

PASSES_MIN = 3
"""Of a large model, whose one pass takes seconds and averages its own disturbances."""

MEASURE_S = 2.0
"""Per batch size and thread count; a small model's pass takes 10 to 100 ms: tens of chances for an
undisturbed one."""


@dataclass(frozen=True, slots=True)
class LinearLimit:
    rows: int  # M: requests decoding at once
    pass_s: float  # seconds of one pass, the best

    @property
    def tokens_per_s(self) -> float:
        return self.rows / self.pass_s


def layer_shapes(config: ModelConfig) -> tuple[tuple[int, int], ...]:
    """(out, in) of each product of one layer, fused as the engine fuses them: qkv, o, gate-up,
    down.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    q, kv = config.heads * config.head_size, config.kv_heads * config.head_size
    return ((q + 2 * kv, hidden), (hidden, q), (2 * inner, hidden), (hidden, inner))


def measure_limits(
    config: ModelConfig,
    quantization: Quantization,
    batch_sizes: Sequence[int],
    *,
    threads: int,
    clock: Clock,
) -> tuple[LinearLimit, ...]:
    """One limit per batch size. Holds the model's linear weights in memory meanwhile."""
    products = _products(config, quantization)
    with torch.inference_mode():
        return tuple(
            min(
                (_limit(products, rows, count, clock) for count in sorted({1, threads})),
                key=lambda limit: limit.pass_s,
            )
            for rows in batch_sizes
        )


def _products(config: ModelConfig, quantization: Quantization) -> list[tuple[Linear, int]]:
    """Every linear layer of the model, distinct in memory as in the model, with its input width."""
    generator = torch.Generator().manual_seed(0)
    shapes = [*layer_shapes(config) * config.layers, (config.vocab_size, config.hidden_size)]
    return [
        (make_linear(torch.randn(shape, generator=generator), None, quantization), shape[1])
        for shape in shapes
    ]


def _limit(
    products: Sequence[tuple[Linear, int]], rows: int, threads: int, clock: Clock
) -> LinearLimit:
    torch.set_num_threads(threads)
    inputs = {width: torch.randn(rows, width) for _, width in products}  # [M, in]

    def one_pass() -> None:
        for linear, width in products:
            linear(inputs[width])

    one_pass()  # the first one allocates and lets oneDNN choose its kernels
    return LinearLimit(rows, best_duration_s(one_pass, clock))


def best_duration_s(work: Callable[[], None], clock: Clock) -> float:
    """Repeats `work` for MEASURE_S, at least PASSES_MIN times."""
    durations_s: list[float] = []
    began_s = now_s = clock.monotonic_s()
    while len(durations_s) < PASSES_MIN or now_s - began_s < MEASURE_S:
        work()
        ended_s = clock.monotonic_s()
        durations_s.append(ended_s - now_s)
        now_s = ended_s
    return min(durations_s)
