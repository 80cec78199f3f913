"""What one engine step asks of the runner, and what it gets back: flat, device-free values.

The scheduler's plan becomes a `StepBatch`; a runner turns it into tensors, runs the model once over
all rows of all requests and samples. Fused kernels and CUDA graphs fit behind this one call. Knows
no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

from baton.engine.constraint import Constraint
from baton.engine.params import SamplingParams, TokenSample


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """Asks for the token that follows the slice it hangs on."""

    params: SamplingParams
    prompt: Sequence[int]  # token ids; read only by penalties
    output: Sequence[int]  # token ids generated so far; their number decides min_tokens
    eos_token_ids: tuple[int, ...]  # masked while fewer than min_tokens are out
    drawing: int = 0  # tokens before this one that launched steps draw: `output` lacks them
    constraint: Constraint | None = None  # says which tokens may be drawn; None: all

    @property
    def position(self) -> int:
        """Index, in prompt + output, of the token to be drawn."""
        return len(self.prompt) + len(self.output) + self.drawing


@dataclass(frozen=True, slots=True)
class BatchSlice:
    """One request's share of a step: tokens at positions start .. start + len(tokens) - 1.

    Positions below `start` are in the KV cache already. `block_table` covers every position of the
    slice.
    """

    request_id: str
    token_ids: Sequence[int]
    start: int
    block_table: Sequence[int]
    sample: SampleRequest | None = None  # set when the slice reaches the end of what is known
    # k: score each next token of the slice, with its k likeliest; the tokens that really follow
    prompt_logprobs: int | None = None
    next_token_ids: Sequence[int] = ()
    # The last so many of token_ids are guessed: they are kept as far as the sampler agrees.
    guesses: int = 0
    # Set where the one token is what the step launched before draws for the slice of this index:
    # the host does not know it yet, and token_ids holds a 0 in its place.
    follows: int | None = None

    @property
    def draws(self) -> int:
        """Rows that tokens are drawn from: the slice's last ones."""
        return 0 if self.sample is None else self.guesses + 1

    @property
    def context_length(self) -> int:
        """Tokens in the KV cache once the slice is computed."""
        return self.start + len(self.token_ids)


@dataclass(frozen=True, slots=True)
class StepBatch:
    slices: tuple[BatchSlice, ...]
    # Others on the same cores come first: prompts, for which requests of this worker wait too.
    stands_back: bool = False


@dataclass(frozen=True, slots=True)
class SliceResult:
    """What the runner found for one slice, in the order of the batch."""

    # the tokens that follow the known ones: every guess that was right, then one more
    samples: tuple[TokenSample, ...] = ()
    # with prompt_logprobs: one per entry of `next_token_ids` (the last prompt row has none)
    prompt_logprobs: tuple[TokenSample, ...] = ()
    # a fault of this row alone (NaN logits): the request fails, the batch goes on
    error: str | None = None


class Runner(Protocol):
    """Computes one step. Called from the engine's thread only."""

    def run(self, batch: StepBatch) -> list[SliceResult]:
        """Write the slices' KV into the cache, return one result per slice. Raises
        EngineFailure."""
        ...


Ticket = NewType("Ticket", int)
"""A launched step; each is collected once, in the order of launching."""


class Launcher(Runner, Protocol):
    """A runner that need not be waited for: a step may be launched while the last one's results
    are on their way. Called from the engine's thread only."""

    def launch(self, batch: StepBatch) -> Ticket:
        """Begin a step. At most one other may be under way. Raises EngineFailure."""
        ...

    def collect(self, ticket: Ticket) -> list[SliceResult]:
        """Wait for a step's results. Raises EngineFailure."""
        ...


class KvStore(Protocol):
    """The bytes of KV blocks, for the hand-off. [layer][k,v][block][slot][head][dim], device order.

    Blocks being read or written are reserved by the caller: no step touches them meanwhile, so both
    calls are safe beside a running step.
    """

    def read_blocks(self, block_ids: Sequence[int]) -> bytes: ...

    def write_blocks(self, block_ids: Sequence[int], payload: bytes) -> None: ...

    def touch(self) -> bool:
        """Have the system give one more piece of the memory it promised, so that no step waits for
        it; False when there is no more. Safe beside a running step."""
        ...
