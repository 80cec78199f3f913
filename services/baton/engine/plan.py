"""What bounds the scheduler, and what it answers: limits, identity, the slices of a step.

Values only; who gets which slice is the scheduler's to decide.
"""

from dataclasses import dataclass, field

from baton.engine.identity import root_id
from baton.engine.request import Request


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """`token_budget` bounds a step's duration; `sequences_max` its batch and the blocks in play."""

    token_budget: int
    sequences_max: int
    context_length_max: int  # tokens; the smaller of what the model and the pool can hold

    def __post_init__(self) -> None:
        if self.token_budget < self.sequences_max:
            raise ValueError("token_budget must give every sequence at least one token a step")


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
