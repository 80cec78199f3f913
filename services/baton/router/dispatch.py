"""The story of one request: await its turn, decide on a worker, submit, follow, and move on when
the worker fails.

The router keeps prompt and output, so a request moves to another decode worker with what it has;
draws are counter-based, so the continuation is the same token for token. Knows no HTTP, no text and
no gRPC.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection

from baton.common.clock import Clock
from baton.common.errors import BatonError, Overloaded, PromptTooLong, Unavailable
from baton.common.logs import get_log
from baton.common.metrics import Metrics
from baton.router.decide import Decision, Need
from baton.router.fleet import Role
from baton.router.holding import Holding
from baton.router.journey import Journey, no_use, too_late
from baton.router.picture import Picture
from baton.router.request_trace import TryTrace
from baton.router.tally import Tally
from baton.router.tenants.gate import Gate
from baton.router.work import DecodeSide, Submission, Ticket, Update, Work

DEADLINE_GRACE_S = 2.0
"""Decode ends a request at its deadline; after this the router no longer waits to hear so."""

_log = get_log(__name__)


class Dispatcher:
    """Runs work on whichever worker can. One per process."""

    def __init__(
        self,
        *,
        picture: Picture,
        holding: Holding[Decision],
        links: DecodeSide,
        clock: Clock,
        metrics: Metrics,
        tally: Tally,
        gate: Gate,
        eos_token_ids: Collection[int],
        ready_wait_s: float,
    ) -> None:
        """`ready_wait_s`: how long a request waits for a ready worker, within its own deadline."""
        self._picture = picture
        self._holding = holding
        self._links = links
        self._clock = clock
        self._metrics = metrics
        self._tally = tally
        self._gate = gate
        self._eos_token_ids = frozenset(eos_token_ids)
        self._ready_wait_s = ready_wait_s

    async def run(self, work: Work) -> AsyncGenerator[Update, None]:
        """Updates until one has `finish`, which is STOP or LENGTH. Closing the generator cancels
        the work on its worker.

        Raises the BatonError that ended the request otherwise.
        """
        journey = Journey(work)
        self._tally.arrived(len(work.prompt))
        turn = self._gate.turn(work)
        try:
            deserted_s = await turn.comes()
            while True:
                if (finish := journey.finish(self._eos_token_ids)) is not None:
                    yield Update(finish=finish)
                    return
                decision = await self._decision(journey, deserted_s)
                deserted_s = 0.0
                with self._trying(journey, decision) as trial:
                    ticket = await self._submit(journey, decision, trial)
                    if ticket is None:
                        continue
                    late = self._fail_when_late(ticket, work)
                    self._tally.submitted()
                    first = True
                    try:
                        while True:
                            update = journey.take(await ticket.next())
                            if update.cached_tokens:
                                self._tally.found_cached(update.cached_tokens)
                            if first:
                                first = False
                                turn.give_back()
                                trial.first_token(update.cached_tokens)
                            if update.finish is not None:
                                trial.finished(update.finish)
                            yield update  # often the last thing asked of us
                            if update.finish is not None:
                                return
                    except BatonError as error:
                        self._move_on(journey, decision, error, trial, lost=ticket.lost)
                    finally:
                        self._tally.left()
                        late.cancel()
                        ticket.cancel()
                        trial.generated(len(journey.output))
        finally:
            turn.give_back()
            self._tally.ended(len(journey.output))

    def _trying(self, journey: Journey, decision: Decision) -> TryTrace:
        work = journey.work
        output_tokens = len(journey.output)
        return work.trace.begin_try(decision, work_id=work.work_id, output_tokens=output_tokens)

    async def _submit(self, journey: Journey, decision: Decision, trial: TryTrace) -> Ticket | None:
        """None: this worker does not take it now. Raises where no other try helps."""
        remaining_s = self._remaining_s(journey.work)
        submission: Submission = journey.submission(decision, remaining_s, trial.traceparent)
        try:
            return await self._links.submit(decision.decode.address, submission)
        except Unavailable as error:
            self._move_on(journey, decision, error, trial, lost=False)
            return None

    async def _decision(self, journey: Journey, deserted_s: float) -> Decision:
        """Waits for a worker, within limits. Raises Unavailable when none comes.

        `deserted_s`: of the time for that, how much is over already. Else those who wait in line
        would begin to wait for a worker one after another."""
        since_s = self._clock.monotonic_s()
        decision = self._ask(journey)
        if decision is None:
            limit_s = min(self._ready_wait_s - deserted_s, self._remaining_s(journey.work))
            if (within_s := journey.need(since_s).within_s) is not None:
                limit_s = min(limit_s, within_s)
            decision = await self._holding.wait(lambda: self._ask(journey), limit_s)
            journey.work.trace.waited(self._clock.monotonic_s() - since_s)
        self._tally.waited(self._clock.monotonic_s() - since_s)
        if decision is None:
            self._metrics.count("baton_router_refusals_total", reason="no_worker")
            self._remaining_s(journey.work)
            raise Unavailable("no decode worker is ready")
        self._tell(decision, journey)
        return decision

    def _ask(self, journey: Journey) -> Decision | None:
        """A decision; None: wait. Raises where waiting changes nothing."""
        now_s = self._clock.monotonic_s()
        need = journey.need(now_s)
        decision = self._picture.decide(need, journey.prompt(), now_s)
        if decision is None:
            self._refuse_hopeless(journey, need)
        elif need.within_s is not None and not decision.timely:
            raise no_use(decision.first_token_s, need.within_s)
        return decision

    def _tell(self, decision: Decision, journey: Journey) -> None:
        self._metrics.count("baton_router_decisions_total", reason=decision.reason.value)
        _log.info(
            "request dispatched",
            request_id=journey.work.work_id,
            worker=decision.decode.address,
            reason=decision.reason.value,
            prefill=next(iter(decision.prefill_candidates), None),
            prompt_tokens=len(journey.work.prompt),
            cached_tokens=decision.cached_tokens,
            **journey.work.trace.span.log_fields,
        )

    def _refuse_hopeless(self, journey: Journey, need: Need) -> None:
        """Do not wait for what waiting does not change."""
        if isinstance(journey.last_error, Overloaded):
            raise journey.last_error
        ready = self._picture.fleet.ready(Role.DECODE)
        longest = max((view.context_length_max for view in ready), default=need.tokens)
        if longest < need.tokens:
            raise PromptTooLong(
                f"prompt and output of {need.tokens} tokens exceed the {longest} tokens that the "
                "decode workers can hold"
            )

    def _move_on(
        self,
        journey: Journey,
        decision: Decision,
        error: BatonError,
        trial: TryTrace,
        *,
        lost: bool,
    ) -> None:
        """Note the failure. Raises where trying again cannot help."""
        trial.failed(error, lost=lost)
        polite = self._picture.left_politely(decision.decode)
        journey.note_failure(decision.decode, error, lost=lost, polite=polite)
        reason = "draining" if polite and lost else error.code
        self._metrics.count("baton_router_resubmissions_total", reason=reason)
        _log.warning(
            "request moves on",
            request_id=journey.work.work_id,
            worker=decision.decode.address,
            reason=reason,
            lost=lost,
            output_tokens=len(journey.output),
            **journey.work.trace.span.log_fields,
        )

    def _remaining_s(self, work: Work) -> float:
        remaining_s = work.deadline_s - self._clock.monotonic_s()
        if remaining_s <= 0:
            raise too_late()
        return remaining_s

    def _fail_when_late(self, ticket: Ticket, work: Work) -> asyncio.TimerHandle:
        delay_s = work.deadline_s - self._clock.monotonic_s() + DEADLINE_GRACE_S
        return asyncio.get_running_loop().call_later(delay_s, ticket.fail, too_late())
