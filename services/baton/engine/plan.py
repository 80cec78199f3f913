"""What bounds the scheduler, and what it answers: limits, identity, the slices of a step.

Values only; who gets which slice is the scheduler's to decide.
"""

from dataclasses import dataclass, field

from baton.common.errors import InvalidRequest, PromptTooLong
from baton.engine.identity import root_id
from baton.engine.messages import Submit
from baton.engine.request import Request


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """`token_budget` bounds a step's duration; `sequences_max` its batch and the blocks in play."""

    token_budget: int
    sequences_max: int
    context_length_max: int  # tokens; the smaller of what the model and the pool can hold
    backlog_budget: int = 0  # tokens of a step at most where decodes go along with prompts
    # Prompts side by side where no decode goes along, each in chunks of `token_budget`: threads
    # that have a prompt each need not wait for each other.
    prompts_together: int = 1

    def __post_init__(self) -> None:
        if self.token_budget < self.sequences_max:
            raise ValueError("token_budget must give every sequence at least one token a step")

    def require_room(self, command: Submit) -> None:
        """Raises InvalidRequest, or PromptTooLong, for a request that could never run."""
        length = len(command.prompt) + len(command.output)
        if not command.prompt:
            raise InvalidRequest("the prompt is empty", param="prompt")
        if length >= self.context_length_max:
            raise PromptTooLong(
                f"the prompt has {length} tokens; at most {self.context_length_max - 1} "
                "leave room for an answer",
                param="prompt",
            )

    def step_budget(self, decoding: int, prompt_tokens: int) -> int:
        """Tokens of the next step, with so many decodes in it and prompt tokens to be computed.

        Every step takes the decodes along: prompts in many small steps wait for them again and
        again, and decodes wait for the prompts all the same.
        """
        if not decoding:
            return self.token_budget * self.prompts_together
        return max(self.token_budget, min(self.backlog_budget, decoding + prompt_tokens))


@dataclass(frozen=True, slots=True)
class KvIdentity:
    """What the root of every block id is made of, besides the tenant's salt."""

    model_revision: str
    dtype: str

    def root(self, block_size: int, cache_salt: bytes) -> bytes:
        return root_id(
            model_revision=self.model_revision,
            dtype=self.dtype,
            block_size=block_size,
            cache_salt=cache_salt,
        )


@dataclass(frozen=True, slots=True)
class PlannedSlice:
    """The next `length` tokens of `request` from its start on, and guesses at those after them."""

    request: Request
    length: int
    guesses: tuple[int, ...] = ()
    start: int = field(init=False)  # position of the first of them
    samples: bool = field(init=False)  # whether it reaches the end of what is known or being drawn

    def __post_init__(self) -> None:
        # as of now: launching a step moves the request's start
        object.__setattr__(self, "start", self.request.start)
        object.__setattr__(self, "samples", self.length == self.request.pending)
