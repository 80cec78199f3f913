"""What routers tell: nobody asks anything and a worker rests, but for what a test says of it."""

from typing import Any

from baton.common.signals import WINDOW_S, Traffic, WorkerSignals

SUMS = tuple(name for name in Traffic.__struct_fields__ if name not in ("window_s", "lately"))
COSTS = ("fixed_s", "prefill_token_s", "prefill_kv_token_s", "decode_row_s", "kv_token_s")


def quiet_traffic(**changes: Any) -> Traffic:
    return Traffic(**{**dict.fromkeys(SUMS, 0), "window_s": WINDOW_S, **changes})


def resting_worker(**changes: Any) -> WorkerSignals:
    """A decode worker that has learned nothing of its speed."""
    told = {
        "address": "10.0.0.1:7000",
        "role": "decode",
        "incarnation": 1,
        "state": "ready",
        "age_s": 0.0,
        "requests_running": 0,
        "requests_waiting": 0,
        "blocks_used": 0,
        "block_count": 100,
        "block_size": 16,
        "prefill_tokens_waiting": 0,
        **dict.fromkeys(COSTS, 0.0),
    }
    return WorkerSignals(**{**told, **changes})
