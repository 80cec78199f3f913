"""The workers as they last described themselves: values, and nothing that acts on them.

Pure. What a worker is (its view) changes rarely and wakes whoever waits; how busy it is (its load)
changes with every step and wakes nobody.
"""

from dataclasses import dataclass, field
from enum import Enum

from baton.engine.costmodel import Coefficients
from baton.engine.quant.kv import kv_vector_bytes


class Role(Enum):
    PREFILL = "prefill"
    DECODE = "decode"


class WorkerState(Enum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Layout:
    """Two workers may exchange KV only when all of this is equal."""

    model_revision: str
    layers: int
    kv_heads: int
    head_size: int
    block_size: int
    dtype: str

    @property
    def token_bytes(self) -> int:
        """KV of one token over all layers; 0 for a dtype the router does not know."""
        try:
            return self.layers * 2 * self.kv_heads * kv_vector_bytes(self.dtype, self.head_size)
        except KeyError:
            return 0


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker as it last described itself."""

    address: str  # "host:port"
    role: Role
    incarnation: int  # another number is another process, even at the same address
    state: WorkerState
    model_name: str
    layout: Layout
    context_length_max: int  # tokens of prompt + output
    block_count: int = 0  # 0: not told
    frozen: bool = False  # has work and makes no steps

    @property
    def ready(self) -> bool:
        return self.state is WorkerState.READY and not self.frozen

    @property
    def process(self) -> tuple[str, int]:
        return (self.address, self.incarnation)


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """How busy one worker is, and what it has learned about its own pace."""

    running: int = 0  # requests
    waiting: int = 0  # requests
    blocks_used: int = 0
    prefill_tokens_waiting: int = 0
    step: int = 0  # engine steps since start
    coefficients: Coefficients = field(default_factory=Coefficients)  # all zero: nothing learned
    # KV bytes per second that hand-offs to this worker brought, by prefill worker
    transfer_bytes_per_s: tuple[tuple[str, float], ...] = ()

    @property
    def learned(self) -> bool:
        return self.coefficients != Coefficients()

    def transfer_rate(self, peer: str) -> float | None:
        """Bytes per second from `peer`; from a peer not measured yet, those of the others."""
        rates = dict(self.transfer_bytes_per_s)
        if peer in rates or not rates:
            return rates.get(peer)
        return sum(rates.values()) / len(rates)


@dataclass(frozen=True, slots=True)
class Heard:
    """One event of a worker's watch."""

    view: WorkerView
    load: WorkerLoad = field(default_factory=WorkerLoad)
    blocks_added: tuple[bytes, ...] = ()
    blocks_removed: tuple[bytes, ...] = ()
    snapshot: bool = True  # `blocks_added` is all there is


@dataclass(frozen=True, slots=True)
class Fleet:
    """All workers that can be heard right now."""

    workers: tuple[WorkerView, ...] = ()

    def ready(self, role: Role) -> tuple[WorkerView, ...]:
        return tuple(view for view in self.workers if view.ready and view.role is role)
