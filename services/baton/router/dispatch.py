"""The story of one request: decide on a worker, submit, follow, and move on when the worker fails.

The router keeps prompt and output, so a request moves to another decode worker with what it has;
draws are counter-based, so the continuation is the same token for token. Knows no HTTP, no text and
no gRPC.
"""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Collection

from baton.common.clock import Clock
from baton.common.errors import (
    BatonError,
    DeadlineExceeded,
    EngineFailure,
    Overloaded,
    PromptTooLong,
    Unavailable,
)
from baton.common.logs import get_log
from baton.common.metrics import Metrics
from baton.engine.params import FinishReason
from baton.router.decide import Decision, Need, Role, WorkerView, decide
from baton.router.work import DecodeSide, FleetSource, Submission, Ticket, Update, Work

TRIES_MAX = 3
"""Two workers may fail under a request by bad luck; a third failure is rarely luck."""

CRASHES_MAX = 2
"""A request that was running in this many worker crashes may well be their cause."""

DEADLINE_GRACE_S = 2.0
"""Decode ends a request at its deadline; after this the router no longer waits to hear so."""

_log = get_log(__name__)


class Dispatcher:
    """Runs work on whichever worker can. One per process."""

    def __init__(
        self,
        *,
        fleet: FleetSource,
        links: DecodeSide,
        clock: Clock,
        metrics: Metrics,
        eos_token_ids: Collection[int],
        ready_wait_s: float,
    ) -> None:
        self._fleet = fleet
        self._links = links
        self._clock = clock
        self._metrics = metrics
        self._eos_token_ids = frozenset(eos_token_ids)
        self._ready_wait_s = ready_wait_s
        self._turn = 0

    async def run(self, work: Work) -> AsyncGenerator[Update, None]:
        """Updates until one has `finish`, which is STOP or LENGTH. Closing the generator cancels
        the work on its worker.

        Raises the BatonError that ended the request otherwise.
        """
        journey = _Journey(work)
        while True:
            if (finish := journey.finish(self._eos_token_ids)) is not None:
                yield Update(finish=finish)
                return
            decision = await self._decision(journey)
            try:
                ticket = await self._links.submit(
                    decision.decode.address, journey.submission(decision, self._remaining_s(work))
                )
            except Unavailable as error:
                self._move_on(journey, decision, error, lost=False)
                continue
            late = self._fail_when_late(ticket, work)
            try:
                while True:
                    update = journey.take(await ticket.next())
                    yield update
                    if update.finish is not None:
                        return
            except BatonError as error:
                self._move_on(journey, decision, error, lost=ticket.lost)
            finally:
                late.cancel()
                ticket.cancel()

    async def _decision(self, journey: "_Journey") -> Decision:
        """Waits for a worker, but not long. Raises Unavailable when none comes."""
        work, need = journey.work, journey.need()
        give_up_s = min(self._clock.monotonic_s() + self._ready_wait_s, work.deadline_s)
        while True:
            self._turn += 1
            decision = decide(self._fleet.fleet, need, self._turn)
            if decision is not None:
                self._tell(decision, work)
                return decision
            self._refuse_hopeless(journey, need)
            left_s = give_up_s - self._clock.monotonic_s()
            if left_s <= 0 or not await self._fleet.wait_change(left_s):
                self._remaining_s(work)
                raise Unavailable("no decode worker is ready")

    def _tell(self, decision: Decision, work: Work) -> None:
        self._metrics.count("baton_router_decisions_total", reason=decision.reason.value)
        _log.info(
            "request dispatched",
            request_id=work.work_id,
            worker=decision.decode.address,
            reason=decision.reason.value,
        )

    def _refuse_hopeless(self, journey: "_Journey", need: Need) -> None:
        """Do not wait for what waiting does not change."""
        if isinstance(journey.last_error, Overloaded):
            raise journey.last_error
        ready = self._fleet.fleet.ready(Role.DECODE)
        longest = max((view.context_length_max for view in ready), default=need.tokens)
        if longest < need.tokens:
            raise PromptTooLong(
                f"prompt and output of {need.tokens} tokens exceed the {longest} tokens that the "
                "decode workers can hold"
            )

    def _move_on(
        self, journey: "_Journey", decision: Decision, error: BatonError, *, lost: bool
    ) -> None:
        """Note the failure. Raises where trying again cannot help."""
        journey.note_failure(decision.decode, error, lost=lost)
        self._metrics.count("baton_router_resubmissions_total")
        _log.warning(
            "request moves on",
            request_id=journey.work.work_id,
            worker=decision.decode.address,
            reason=error.code,
            lost=lost,
            output_tokens=len(journey.output),
        )

    def _remaining_s(self, work: Work) -> float:
        remaining_s = work.deadline_s - self._clock.monotonic_s()
        if remaining_s <= 0:
            raise _too_late()
        return remaining_s

    def _fail_when_late(self, ticket: Ticket, work: Work) -> asyncio.TimerHandle:
        delay_s = work.deadline_s - self._clock.monotonic_s() + DEADLINE_GRACE_S
        return asyncio.get_running_loop().call_later(delay_s, ticket.fail, _too_late())


class _Journey:
    """What a request has so far, over all its tries."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.output: list[int] = []
        self.last_error: BatonError | None = None
        self._tries = 0
        self._crashes = 0
        self._avoid: frozenset[tuple[str, int]] = frozenset()
        self._told_first = False

    def need(self) -> Need:
        return Need(
            tokens=len(self.work.prompt) + self.work.params.max_tokens,
            prompt_logprobs=self._prompt_logprobs() is not None,
            avoid=self._avoid,
        )

    def submission(self, decision: Decision, remaining_s: float) -> Submission:
        params = dataclasses.replace(self.work.params, prompt_logprobs=self._prompt_logprobs())
        self._tries += 1
        return Submission(
            # Another id per try: late news of an earlier one must not reach a later one.
            request_id=f"{self.work.work_id}-{self._tries}",
            prompt=self.work.prompt,
            output=tuple(self.output),
            params=params,
            remaining_s=remaining_s,
            prefill_candidates=decision.prefill_candidates,
            cache_salt=self.work.cache_salt,
        )

    def take(self, update: Update) -> Update:
        """Add an update to the output; raises the error it carries. What only the first update
        tells is told once, although each try has a first update."""
        if update.finish not in (None, FinishReason.STOP, FinishReason.LENGTH):
            raise _failure(update)
        self.output.extend(sample.token_id for sample in update.tokens)
        if self._told_first:
            return dataclasses.replace(update, cached_tokens=None, prompt_logprobs=())
        self._told_first = True
        return update

    def note_failure(self, view: WorkerView, error: BatonError, *, lost: bool) -> None:
        """Raises where another try cannot help or would be one too many."""
        self._crashes += lost
        if self._crashes >= CRASHES_MAX:
            raise EngineFailure(
                f"{self._crashes} workers went away while they ran this request; it is not tried "
                "again"
            )
        if not error.retryable or self._tries >= TRIES_MAX:
            raise error
        self.last_error = error
        self._avoid |= {(view.address, view.incarnation)}

    def finish(self, eos_token_ids: Collection[int]) -> FinishReason | None:
        """How the output has ended already, in case a worker died between telling its last token
        and telling that it was the last."""
        params = self.work.params
        if not self.output:
            return None
        ends = set(params.stop_token_ids) | (set() if params.ignore_eos else set(eos_token_ids))
        if self.output[-1] in ends and len(self.output) > params.min_tokens:
            return FinishReason.STOP
        return FinishReason.LENGTH if len(self.output) >= params.max_tokens else None

    def _prompt_logprobs(self) -> int | None:
        return None if self._told_first else self.work.params.prompt_logprobs


def _failure(update: Update) -> BatonError:
    match update.finish:
        case FinishReason.DEADLINE:
            return _too_late()
        case FinishReason.CANCELLED:  # we did not ask for it: the worker let go of it
            return Unavailable("the decode worker gave the request up")
    error = update.error or EngineFailure("the decode worker reported an error without a reason")
    if update.retryable and not error.retryable:
        return Unavailable(error.message)
    return error


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("the request did not finish within its time limit")
