"""One request inside the engine: its tokens, its place in the KV cache, and the phases it lives
through.

    WAITING ──ADMIT──> RUNNING ──FINISH──> FINISHED
       │  ^              │ │  ^ ^
       │  └───PREEMPT────┘ │  │ └─KV_READY / KV_LOST─ AWAITING_KV
       │                   └──HOLD──> HELD ──FINISH──> FINISHED
       └──EXPECT_KV──> AWAITING_KV

Everything that moves a request from phase to phase is in the table below. Knows no blocks'
contents, no batch and no clock: the scheduler decides, this only keeps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from baton.common.errors import IllegalTransition
from baton.engine.constraint import Constraint
from baton.engine.identity import block_id
from baton.engine.messages import Submit
from baton.engine.params import FinishReason, SamplingParams, TokenSample
from baton.engine.speculation import Guessing


class Phase(Enum):
    WAITING = "waiting"  # no blocks
    AWAITING_KV = "awaiting_kv"  # blocks reserved, KV on its way from a prefill worker
    RUNNING = "running"  # takes part in steps
    HELD = "held"  # prefill is done, its blocks are being sent
    FINISHED = "finished"  # no blocks, nothing more to say


class Happening(Enum):
    ADMIT = "admit"
    EXPECT_KV = "expect_kv"
    KV_READY = "kv_ready"
    KV_LOST = "kv_lost"
    PREEMPT = "preempt"
    HOLD = "hold"
    FINISH = "finish"


TRANSITIONS: Mapping[tuple[Phase, Happening], Phase] = {
    (Phase.WAITING, Happening.ADMIT): Phase.RUNNING,
    (Phase.WAITING, Happening.EXPECT_KV): Phase.AWAITING_KV,
    (Phase.WAITING, Happening.FINISH): Phase.FINISHED,
    (Phase.AWAITING_KV, Happening.KV_READY): Phase.RUNNING,
    (Phase.AWAITING_KV, Happening.KV_LOST): Phase.RUNNING,
    (Phase.AWAITING_KV, Happening.FINISH): Phase.FINISHED,
    (Phase.RUNNING, Happening.PREEMPT): Phase.WAITING,
    (Phase.RUNNING, Happening.HOLD): Phase.HELD,
    (Phase.RUNNING, Happening.FINISH): Phase.FINISHED,
    (Phase.HELD, Happening.FINISH): Phase.FINISHED,
}


@dataclass(slots=True, eq=False)
class Request:
    """`tokens` is prompt + output; the KV of the first `computed` of them is in `block_table`."""

    request_id: str
    prompt: tuple[int, ...]
    params: SamplingParams
    root: bytes  # parent id of its first block
    output: list[int] = field(default_factory=list)
    remote: bool = False  # wants its KV from a prefill worker
    export: bool = False  # gives its KV away after the first token
    constraint: Constraint | None = None  # holds its output to a grammar
    priority: int = 0  # the lower, the sooner it is computed, and the later preempted
    phase: Phase = Phase.WAITING
    block_table: list[int] = field(default_factory=list)
    computed: int = 0
    launched: int = 0  # tokens behind those: their KV is being computed by steps under way
    drawing: int = 0  # tokens that steps under way draw: nobody here knows them yet
    sealed_blocks: int = 0  # leading blocks that the pool knows by id
    cached_tokens: int | None = None  # prompt tokens found in a prefix cache; None: not looked yet
    prompt_logprobs: list[TokenSample] = field(default_factory=list)
    announced: bool = False  # its first event has left
    guessing: Guessing = field(default_factory=Guessing)
    _block_ids: list[bytes] = field(default_factory=list)

    def advance(self, happening: Happening) -> None:
        """Raises IllegalTransition, and changes nothing, where the table has no entry."""
        phase = TRANSITIONS.get((self.phase, happening))
        if phase is None:
            raise IllegalTransition("request", self.phase.value, happening.value)
        self.phase = phase

    @property
    def length(self) -> int:
        """Known tokens: prompt + output."""
        return len(self.prompt) + len(self.output)

    @property
    def start(self) -> int:
        """The first position whose KV is neither there nor being computed."""
        return self.computed + self.launched

    @property
    def pending(self) -> int:
        """Tokens, known or being drawn, from `start` on; the last of them asks for a sample."""
        return self.length + self.drawing - self.start

    def tokens(self, start: int, end: int) -> Sequence[int]:
        """Tokens start .. end-1 of prompt + output."""
        size = len(self.prompt)
        if start >= size:
            return self.output[start - size : end - size]
        if end <= size:
            return self.prompt[start:end]
        return (*self.prompt[start:], *self.output[: end - size])

    def block_ids(self, count: int, block_size: int) -> Sequence[bytes]:
        """Ids of the first `count` full blocks; the chain is computed once and kept."""
        ids = self._block_ids
        while len(ids) < count:
            start = len(ids) * block_size
            parent = ids[-1] if ids else self.root
            ids.append(block_id(parent, self.tokens(start, start + block_size)))
        return ids[:count]

    def finish_reason(
        self, eos_token_ids: Sequence[int], capacity_tokens: int
    ) -> FinishReason | None:
        """Whether the last token of the output ends the request."""
        token, params = self.output[-1], self.params
        if len(self.output) >= params.min_tokens:
            if token in params.stop_token_ids:
                return FinishReason.STOP
            if not params.ignore_eos and token in eos_token_ids:
                return FinishReason.STOP
        if len(self.output) >= params.max_tokens or self.length >= capacity_tokens:
            return FinishReason.LENGTH
        return None


def new_request(command: Submit, root: bytes) -> Request:
    """A waiting request; `root` is the parent id of its first block."""
    return Request(
        command.request_id,
        command.prompt,
        command.params,
        root,
        output=list(command.output),
        remote=command.remote,
        export=command.export,
        constraint=command.constraint,
        priority=command.priority,
    )
