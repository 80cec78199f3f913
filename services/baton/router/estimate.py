"""What a worker's own cost model says of a request: how long it waits there, and how long its
prompt takes. Pure.

Every term grows with load, so more load never looks like less. Zero where nothing is learned.
"""

from baton.engine.stepshape import decode_shape
from baton.router.fleet import Layout, WorkerLoad, WorkerView

INFLICTED_ON_MIN = 1
"""Requests a local prefill holds up at least: who arrives while it runs. Otherwise an idle decode
worker would take every prompt itself, and stall the next one."""


def wait_s(load: WorkerLoad, layout: Layout) -> float:
    """Until a new prompt's turn comes: the prompts before it, and a step of the running batch."""
    kv_tokens = load.blocks_used * layout.block_size
    batch_s = load.coefficients.predict_step(decode_shape(load.running, kv_tokens))
    return batch_s + load.prefill_tokens_waiting * load.coefficients.prefill_token_s


def prefill_s(load: WorkerLoad, tokens: int, cached_tokens: int) -> float:
    """Computing `tokens`, the first `cached_tokens` of which are there already."""
    missing = max(0, tokens - cached_tokens)
    return load.coefficients.predict_prefill(
        missing, tokens - missing, step_tokens_max=max(1, missing)
    )


def local_s(load: WorkerLoad, layout: Layout, tokens: int, cached_tokens: int) -> float:
    """A prompt computed on its decode worker: its wait, its prefill, and the delay it inflicts on
    those in the batch, who all stand still meanwhile."""
    own_s = prefill_s(load, tokens, cached_tokens)
    held_up = max(load.running, INFLICTED_ON_MIN)
    return wait_s(load, layout) + own_s * (1 + held_up)


def transfer_s(
    decode: WorkerLoad, prefill: WorkerView, layout: Layout, tokens: int, held_tokens: int
) -> float:
    """Moving the KV that decode does not hold; 0 where nothing was measured."""
    rate = decode.transfer_rate(prefill.address)
    if not rate:
        return 0.0
    return max(0, tokens - held_tokens) * layout.token_bytes / rate
