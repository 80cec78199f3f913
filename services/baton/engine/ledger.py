"""What the scheduler has to tell: events not yet taken, counters, and the audit of its books.

Knows what happened; decides nothing.
"""

from collections.abc import Collection, Sequence

from baton.common.errors import EngineFailure
from baton.engine.blocks import BlockPool
from baton.engine.messages import EngineLoad, Event, Progress, Tokens
from baton.engine.params import FinishReason, TokenSample
from baton.engine.request import Phase, Request


class Ledger:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.admitted: list[str] = []  # ids, in the order they were given blocks
        self.steps = 0
        self.preemptions = 0
        self.prefix_tokens_queried = 0
        self.prefix_tokens_found = 0
        self.guesses_made = 0
        self.guesses_accepted = 0

    def note(self, event: Event) -> None:
        self.events.append(event)

    def tell(
        self,
        request: Request,
        tokens: Sequence[TokenSample] = (),
        *,
        finish: FinishReason | None = None,
        error: str | None = None,
    ) -> None:
        """A Tokens event; the first of a request carries what is said once."""
        scored: tuple[TokenSample, ...] = ()
        if not request.announced and tokens and request.params.prompt_logprobs is not None:
            scored = (TokenSample(request.prompt[0]), *request.prompt_logprobs)
        self.events.append(
            Tokens(
                request.request_id,
                tokens=tuple(tokens),
                finish=finish,
                error=error,
                cached_tokens=None if request.announced else request.cached_tokens,
                prompt_logprobs=scored,
            )
        )
        request.announced = True

    def tell_progress(self, request: Request) -> None:
        table = tuple(request.block_table)
        self.note(Progress(request.request_id, request.computed, table))

    def count_guesses(self, made: int, accepted: int) -> None:
        self.guesses_made += made
        self.guesses_accepted += accepted

    def take_events(self) -> tuple[Event, ...]:
        events, self.events = tuple(self.events), []
        return events

    def admit(self, request: Request) -> None:
        """A request has its blocks; `computed` says how much of it the prefix cache held."""
        self.admitted.append(request.request_id)
        if request.cached_tokens is None:
            request.cached_tokens = min(request.computed, len(request.prompt))
            self.prefix_tokens_queried += request.length
            self.prefix_tokens_found += request.computed

    def take_admitted(self) -> tuple[str, ...]:
        admitted, self.admitted = tuple(self.admitted), []
        return admitted

    def load(
        self,
        *,
        running: int,
        waiting: int,
        blocks_used: int,
        prefill_tokens_waiting: int,
        awaiting_kv: int,
    ) -> EngineLoad:
        return EngineLoad(
            running,
            waiting,
            blocks_used,
            prefill_tokens_waiting,
            self.steps,
            self.preemptions,
            self.prefix_tokens_queried,
            self.prefix_tokens_found,
            self.guesses_made,
            self.guesses_accepted,
            awaiting_kv,
        )

    def audit(
        self,
        requests: Collection[Request],
        waiting: Collection[Request],
        running: Sequence[Request],
        pool: BlockPool,
    ) -> None:
        """Check that every request is where its phase says, with the blocks it needs."""
        for request in requests:
            name, phase = request.request_id, request.phase
            if (request in waiting) != (phase is Phase.WAITING):
                raise EngineFailure(f"{name} is {phase.value} but the queue says otherwise")
            if (request in running) != (phase is Phase.RUNNING):
                raise EngineFailure(f"{name} is {phase.value} but the batch says otherwise")
            if phase is Phase.FINISHED:
                raise EngineFailure(f"{name} is finished and still known")
            if phase is Phase.WAITING and (request.block_table or request.computed):
                raise EngineFailure(f"{name} waits and holds blocks")
            if phase is Phase.RUNNING and request.pending < 1:
                raise EngineFailure(f"{name} runs with nothing to compute")
            if len(request.block_table) < pool.blocks_for(request.computed):
                raise EngineFailure(f"{name} has computed more than its blocks hold")
            if request.sealed_blocks * pool.block_size > request.computed:
                raise EngineFailure(f"{name} shares a block that is not full")
