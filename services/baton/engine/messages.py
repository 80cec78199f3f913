"""What goes into the engine and what comes out: values, so that any transport can carry them.

The engine runs on its own thread; commands reach it between steps, events leave after each step in
one piece. Knows no asyncio and no gRPC.
"""

from dataclasses import dataclass

from baton.engine.constraint import Constraint
from baton.engine.params import FinishReason, SamplingParams, TokenSample
from baton.engine.stepshape import StepShape


@dataclass(frozen=True, slots=True)
class Submit:
    """A new request. Its KV is identified under `cache_salt`.

    `remote`: reserve blocks for the whole prompt and wait for KV from elsewhere (a decode worker).
    `export`: stop after the first token and keep the blocks until Release (a prefill worker).
    """

    request_id: str
    prompt: tuple[int, ...]
    params: SamplingParams
    output: tuple[int, ...] = ()  # tokens a resumed request has generated already
    cache_salt: bytes = b""
    remote: bool = False
    export: bool = False
    constraint: Constraint | None = None  # made of the parameters' grammar, for this request alone
    priority: int = 0  # the lower, the sooner


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a request now. Unknown or finished ids are ignored: the two may cross."""

    request_id: str
    reason: FinishReason  # CANCELLED or DEADLINE


@dataclass(frozen=True, slots=True)
class KvArrived:
    """The KV of the first `blocks` blocks of a remote request is in the cache."""

    request_id: str
    blocks: int


@dataclass(frozen=True, slots=True)
class KvComplete:
    """All KV of a remote request is in the cache, and prefill drew its first token."""

    request_id: str
    token: TokenSample
    cached_tokens: int  # prompt tokens prefill took from its prefix cache


@dataclass(frozen=True, slots=True)
class KvLost:
    """No more KV will come: keep what arrived, compute the rest here."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Release:
    """The export of a request has been sent: its blocks become ordinary prefix cache."""

    request_id: str


Command = Submit | Cancel | KvArrived | KvComplete | KvLost | Release


@dataclass(frozen=True, slots=True)
class Reserved:
    """Blocks for a remote request's whole prompt are reserved; its KV may be written now.

    The first `held_blocks` of `block_table` hold KV already (local prefix).
    """

    request_id: str
    block_table: tuple[int, ...]
    held_blocks: int


@dataclass(frozen=True, slots=True)
class Progress:
    """An exporting request has KV for its first `computed_tokens` tokens, in `block_table`."""

    request_id: str
    computed_tokens: int
    block_table: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a step brought a request. The one with `finish` is its last event."""

    request_id: str
    tokens: tuple[TokenSample, ...] = ()
    finish: FinishReason | None = None
    error: str | None = None  # with FinishReason.ERROR
    cached_tokens: int | None = None  # in the request's first event
    # In the first event, where asked: one per prompt token, the first without logprob.
    prompt_logprobs: tuple[TokenSample, ...] = ()


Event = Reserved | Progress | Tokens


@dataclass(frozen=True, slots=True)
class EngineLoad:
    running: int
    waiting: int
    blocks_used: int
    prefill_tokens_waiting: int  # prompt tokens not computed yet, waiting or in chunks
    step: int  # model steps since start
    preemptions: int = 0  # since start
    prefix_tokens_queried: int = 0  # since start: tokens of admitted requests
    prefix_tokens_found: int = 0  # since start: those of them that the prefix cache held
    guesses_made: int = 0  # since start, by speculation
    guesses_accepted: int = 0  # since start: those of them that were right
    awaiting_kv: int = 0  # requests with blocks whose KV is on its way


@dataclass(frozen=True, slots=True)
class StepReport:
    """Everything one turn of the engine told the world."""

    events: tuple[Event, ...]
    blocks_added: tuple[bytes, ...]  # ids that entered the prefix cache
    blocks_removed: tuple[bytes, ...]  # ids that left it
    load: EngineLoad
    shape: StepShape | None = None  # of the model step this turn ran; None: it ran none
    admitted: tuple[str, ...] = ()  # ids of requests that were given blocks; again when preempted
