"""`baton-loadtest profile`: one table of where decode steps spend their time, on both paths."""

import os
from collections.abc import Sequence
from typing import Annotated

import typer
from baton.cli.pull import default_cache_dir, pull
from baton.cli.stack import DEFAULT_MODEL
from baton.common.clock import SystemClock
from baton.engine.kernels.selection import Kernels
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import Quantization
from baton.model.card import read_config
from rich.console import Console
from rich.table import Table

from baton_loadtest.linear_limit import LinearLimit, measure_limits
from baton_loadtest.machine import machine_line, usable_cores
from baton_loadtest.profile_step import StepProfile, profile_steps

BATCHES = (1, 8, 32)
TABLE_CHARS = 112  # below it columns lose their ends
KVS = (KvCacheDtype.BFLOAT16, KvCacheDtype.INT8)
COLUMNS = (
    "batch",
    "path",
    "KV",
    "step ms",
    "tok/s",
    "linear",
    "attention",
    "rest",
    "x torch",
    "x linear",
)


def run_profile(
    model: Annotated[str, typer.Option(help="Reference, as for `baton serve`.")] = DEFAULT_MODEL,
    quantization: Annotated[
        Quantization, typer.Option(help="How linear layers hold their weights.")
    ] = Quantization.INT8,
    kv_cache_dtype: Annotated[
        list[KvCacheDtype] | None,
        typer.Option(help="What KV blocks hold; several take turns. Default: bfloat16, int8."),
    ] = None,
    context: Annotated[int, typer.Option(min=1, max=8_192, help="Tokens per request.")] = 300,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: all cores.")] = None,
) -> None:
    """Profile decode steps: our kernels and torch, against torch's linear layers alone.

    The rest is all that is neither a linear layer nor attention: norms, rotary, the KV store,
    sampling, Python.
    """
    console, clock = Console(width=max(Console().width, TABLE_CHARS)), SystemClock()
    console.print(machine_line())
    local = pull(model, default_cache_dir(os.environ))
    config = read_config(local)
    count = threads or usable_cores()
    found: list[StepProfile] = []
    for kernels in Kernels:
        found += profile_steps(
            local,
            config,
            quantization,
            kernels,
            kvs=kv_cache_dtype or KVS,
            batches=BATCHES,
            context=context,
            threads=count,
            clock=clock,
        )
    limits = measure_limits(config, quantization, BATCHES, threads=count, clock=clock)
    console.print(profile_table(found, limits))


def profile_table(profiles: Sequence[StepProfile], limits: Sequence[LinearLimit]) -> Table:
    """Speeds relative to torch's step and to a pass of torch's linear layers alone."""
    table = Table(*COLUMNS, title="Median decode step")
    torch_s = {(p.batch, p.kv): p.step_s for p in profiles if p.path == "torch"}
    limit_s = {limit.rows: limit.pass_s for limit in limits}
    for profile in sorted(profiles, key=lambda p: (p.batch, p.path)):
        table.add_row(
            str(profile.batch),
            profile.path,
            profile.kv.value,
            f"{profile.step_s * 1e3:.2f}",
            f"{profile.batch / profile.step_s:.0f}",
            _share(profile.linear_s, profile.step_s),
            _share(profile.attention_s, profile.step_s),
            _share(profile.rest_s, profile.step_s),
            f"{torch_s[profile.batch, profile.kv] / profile.step_s:.2f}",
            f"{limit_s[profile.batch] / profile.step_s:.2f}",
        )
    return table


def _share(part_s: float | None, whole_s: float) -> str:
    return "" if part_s is None else f"{part_s * 1e3:.2f} ({part_s / whole_s:.0%})"
