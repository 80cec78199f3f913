"""What a router tells the operator for its scaling law: the JSON of `GET /signals`, as values.

The contract of two processes, so it lives where both may look. Each router tells what passed
through itself and what its workers last told it; whoever adds routers up counts a worker once.
Knows no law and no HTTP.
"""

import msgspec

WINDOW_S = 60.0
"""What `window` sums cover: long enough that a burst is no trend, short against a pod's start."""

LATELY_S = 20.0
"""What `lately` covers: load that has stopped is out of it this soon. Sums of so little time are
noisy: they may say that what the minute tells of goes on, and nothing by themselves."""


class Lately(msgspec.Struct, frozen=True, kw_only=True):
    """Sums of `Traffic` over the last LATELY_S."""

    requests_arrived: int
    prompt_tokens_arrived: int
    prompt_tokens_cached: int
    requests_ended: int
    output_tokens: int


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Requests through one router. Sums are over the last `window_s` seconds."""

    window_s: float  # WINDOW_S, or less while the router is younger
    requests_waiting: int  # now, for want of a decode worker or for their turn among tenants
    requests_running: int  # submitted to a worker now
    requests_arrived: int
    prompt_tokens_arrived: int
    prompt_tokens_cached: int  # of those that a worker has answered for: found in its prefix cache
    requests_ended: int
    output_tokens: int  # of the requests that ended
    ttft_requests: int  # had their first token in the window
    ttft_attained: int  # and had it within the target; 0 where the router was given none
    itl_requests: int  # ended in the window with two tokens or more
    itl_attained: int  # and had, on average, no longer than the target between two tokens
    lately: Lately | None = None  # None: a router of an older release, which does not tell


class WorkerSignals(msgspec.Struct, frozen=True, kw_only=True):
    """One worker as it last described itself to the router."""

    address: str  # "host:port"
    role: str  # "prefill" or "decode"
    incarnation: int
    state: str  # "starting", "ready" or "draining"
    age_s: float  # since its last word
    requests_running: int
    requests_waiting: int
    blocks_used: int
    block_count: int
    block_size: int  # tokens
    prefill_tokens_waiting: int
    # Seconds per unit; the terms of `baton.engine.costmodel`. All zero: nothing learned yet.
    fixed_s: float
    prefill_token_s: float
    prefill_kv_token_s: float
    decode_row_s: float
    kv_token_s: float


class RouterSignals(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /signals`."""

    model_name: str
    incarnation: int  # random per process start
    traffic: Traffic
    workers: tuple[WorkerSignals, ...]


def encode_signals(signals: RouterSignals) -> bytes:
    return msgspec.json.encode(signals)


def decode_signals(body: bytes) -> RouterSignals:
    """Raises msgspec.ValidationError or msgspec.DecodeError for anything else."""
    return msgspec.json.decode(body, type=RouterSignals)
