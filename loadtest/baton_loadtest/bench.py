"""`baton-loadtest bench`: tokens per second of each topology at each concurrency, beside the limit.

Story: measure the limit, start a stack, warm it, drive it at each concurrency, stop it, next
topology. Knows the order; workload, client, limit and numbers live in modules of their own.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from baton.cli.pull import default_cache_dir
from baton.cli.serve import default_threads
from baton.common.clock import Clock
from baton.engine.quant.quantization import Quantization
from baton.model.config import ModelConfig

from baton_loadtest.client import LoadClient
from baton_loadtest.linear_limit import measure_limits
from baton_loadtest.report import Row
from baton_loadtest.stack import StackSpec, running_stack
from baton_loadtest.stats import summarize
from baton_loadtest.workload import plan_requests

CONCURRENCIES = (1, 8, 32)

RUN_LIMIT_S = 600.0
"""One topology at one concurrency; 32 requests of 256 + 128 tokens take about a minute on 2 cores.
"""

WARM_UP_TOKENS = 16
"""Lets allocators, oneDNN and the hand-off's channels come up before anything is measured."""

PREFILL_COUNTS = (0, 1)
"""Aggregated, and with the prompt computed by a worker of its own."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    model: str
    model_name: str
    quantization: Quantization
    prompt_tokens: int
    output_tokens: int
    concurrencies: tuple[int, ...]
    seed: int
    rate_per_s: float | None  # None: all requests of a run at once


class Listener(Protocol):
    """Hears what is being done; the terminal."""

    def __call__(self, text: str) -> None: ...


async def bench(
    options: BenchOptions, config: ModelConfig, *, clock: Clock, listener: Listener
) -> tuple[Row, ...]:
    """All rows of the table. Raises Unavailable or DeadlineExceeded when anything goes wrong."""
    rows: list[Row] = []
    for prefill in PREFILL_COUNTS:
        rows.extend(await _bench_topology(options, config, prefill, clock, listener))
    return tuple(rows)


async def _bench_topology(
    options: BenchOptions, config: ModelConfig, prefill: int, clock: Clock, listener: Listener
) -> Sequence[Row]:
    spec = StackSpec(
        prefill=prefill,
        decode=1,
        model=options.model,
        model_name=options.model_name,
        quantization=options.quantization.value,
        threads=default_threads(prefill, 1, options.quantization, default_cache_dir(os.environ)),
    )
    listener(f"{spec.label}: linear layers alone, {spec.threads} threads")
    limits = measure_limits(
        config, options.quantization, options.concurrencies, threads=spec.threads, clock=clock
    )
    listener(f"{spec.label}: starting")
    rows: list[Row] = []
    async with running_stack(spec, clock=clock) as http:
        client = LoadClient(http, options.model_name, clock=clock)
        warm_up = plan_requests(
            2, prompt_tokens=options.prompt_tokens, output_tokens=WARM_UP_TOKENS, seed=options.seed
        )
        await client.run(warm_up, limit_s=RUN_LIMIT_S)
        for number, limit in enumerate(limits, start=1):
            listener(f"{spec.label}: {limit.rows} concurrent")
            requests = plan_requests(
                limit.rows,
                prompt_tokens=options.prompt_tokens,
                output_tokens=options.output_tokens,
                seed=options.seed + number,  # prompts unlike any earlier one: no prefix is cached
                rate_per_s=options.rate_per_s,
            )
            observed = await client.run(requests, limit_s=RUN_LIMIT_S)
            rows.append(Row(spec.label, limit.rows, summarize(observed), limit.tokens_per_s))
    return rows
