"""Baton as a contestant: aggregated, and with a prefill worker of its own. Starts nothing."""

import sys
from collections.abc import Sequence

from baton.engine.quant.quantization import Quantization

from baton_loadtest.peers.contestant import LOOPBACK, Contestant
from baton_loadtest.peers.process import Command

READY_LIMIT_S = 300.0
"""The model is on disk; kernels may have to be compiled first."""


def contestant(
    prefill: int,
    *,
    model: str,
    model_name: str,
    quantization: Quantization,
    options: Sequence[str],
) -> Contestant:
    """`prefill`: workers, 0 or more. `options`: further ones of `baton serve`, as given."""
    workers = {"prefill": prefill, "decode": 1}

    def serve(port: int) -> Command:
        argv = (
            *(sys.executable, "-m", "baton.cli", "serve", "--host", LOOPBACK, "--port", str(port)),
            *("--prefill", str(prefill), "--decode", "1"),
            *("--model", model, "--model-name", model_name),
            *("--quantization", quantization.value, *options),
        )
        return Command(argv, READY_LIMIT_S)

    topology = f"{prefill}P + 1D" if prefill else "aggregated"
    name = f"Baton {topology} {quantization.value}"
    return Contestant(name, True, serve, model_name, "/ready", workers)
