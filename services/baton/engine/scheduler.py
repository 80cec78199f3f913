"""Who computes what in the next step: plan, then commit what the step found.

One token budget per step, shared by decode (one token each, first) and prefill (chunks of what is
left). By priority, then by age, prompts are chunked, and waiting requests admitted when the pool
has blocks for everything they know; when a decode needs a block and none is free, the last of the
running by that order is preempted and recomputed later. Decides only: knows no tensors, threads,
clock or transport.
"""

from collections.abc import Sequence
from operator import attrgetter

from baton.common.errors import IllegalTransition, InvalidRequest
from baton.engine.batch import SliceResult
from baton.engine.blocks import BlockPool
from baton.engine.guesses import StepGuesses
from baton.engine.ledger import Ledger
from baton.engine.line import Line
from baton.engine.lookahead import LookAhead
from baton.engine.messages import EngineLoad, Event, Reserved, Submit
from baton.engine.params import FinishReason, TokenSample
from baton.engine.plan import KvIdentity, PlannedSlice, SchedulerLimits
from baton.engine.request import Happening, Phase, Request, new_request
from baton.engine.speculation import Guesser

_priority = attrgetter("priority")


class Scheduler:
    def __init__(
        self,
        limits: SchedulerLimits,
        pool: BlockPool,
        identity: KvIdentity,
        eos_token_ids: Sequence[int],
        guesser: Guesser | None = None,
    ) -> None:
        self.limits = limits
        self.eos_token_ids = tuple(eos_token_ids)
        self._pool = pool
        self._identity = identity
        self._requests: dict[str, Request] = {}  # every request that is not finished
        self._waiting = Line()
        self._running: list[Request] = []  # in order of admission
        self._awaiting: set[str] = set()  # ids of requests whose KV is on its way
        self._blocked = False  # the last plan found nothing to do: only a command can change that
        self._ledger = Ledger()
        self._guesses: StepGuesses | None = None  # None: no speculation
        if guesser is not None:
            self._guesses = StepGuesses(guesser, limits, pool, self._ledger)
        self.ahead = LookAhead(pool, limits.context_length_max)

    # -- commands -----------------------------------------------------------------------------

    def submit(self, command: Submit) -> None:
        """Queue a request. PromptTooLong or InvalidRequest if it can never run."""
        if command.request_id in self._requests:
            raise InvalidRequest(f"request id {command.request_id} is in use")
        self.limits.require_room(command)
        root = self._identity.root(self._pool.block_size, command.cache_salt)
        request = new_request(command, root)
        self._requests[request.request_id] = request
        self._waiting.join(request)
        self._blocked = False

    def cancel(self, request_id: str, reason: FinishReason) -> None:
        request = self._requests.get(request_id)
        if request is not None:
            self._finish(request, reason)

    def kv_arrived(self, request_id: str, blocks: int) -> None:
        request = self._expecting(request_id, Happening.KV_READY)
        if request is not None:
            arrived = min(blocks * self._pool.block_size, request.length)
            request.computed = max(request.computed, arrived)

    def kv_complete(self, request_id: str, token: TokenSample, cached_tokens: int) -> None:
        request = self._expecting(request_id, Happening.KV_READY)
        if request is None:
            return
        request.advance(Happening.KV_READY)
        self._enter_batch(request)
        request.cached_tokens = max(request.cached_tokens or 0, cached_tokens)
        request.computed = request.length
        self._seal(request)
        self._take_tokens(request, (token,))

    def kv_lost(self, request_id: str) -> None:
        request = self._expecting(request_id, Happening.KV_LOST)
        if request is None:
            return
        request.advance(Happening.KV_LOST)
        self._enter_batch(request)
        # whatever arrived, the last known token is computed here: its logits give the next one
        request.computed = min(request.computed, request.length - 1)
        self._seal(request)

    def release(self, request_id: str) -> None:
        """End an export; one that is still computing ends as cancelled."""
        request = self._requests.get(request_id)
        if request is not None and request.phase is Phase.HELD:
            self._drop(request)
        elif request is not None:
            self._finish(request, FinishReason.CANCELLED)

    # -- a step -------------------------------------------------------------------------------

    def plan(self) -> list[PlannedSlice]:
        """Choose the slices of the next step; empty when nothing can be computed, or not yet."""
        ahead = self.ahead
        if ahead.must_wait(self._running):
            return []
        decoding = [r for r in self._running if r.pending == 1 and ahead.goes_on(r)]
        chunked = any(request.pending > 1 for request in self._running)
        guesses = None if chunked or self._waiting else self._guesses
        if guesses is not None and not ahead.idle:
            if guesses.wished(decoding):
                return []  # they follow a token that is being drawn
            guesses = None
        planned: list[PlannedSlice] = []
        budget = self.limits.step_budget(len(decoding), self._prompt_tokens())
        chunk_max = budget if decoding else self.limits.token_budget
        preempted = False
        for request in decoding:
            if request.phase is not Phase.RUNNING:
                continue  # preempted for an older one a moment ago
            preempted |= self._make_room(request)
            if request.phase is Phase.RUNNING:
                planned.append(PlannedSlice(request, 1))
        planned = [piece for piece in planned if piece.request.phase is Phase.RUNNING]
        budget -= len(planned)
        if guesses is not None and not preempted:
            planned = guesses.add(planned, budget, running=len(self._running))
        prompts = [request for request in self._running if request.pending > 1]
        for request in sorted(prompts, key=_priority):
            if not preempted:
                budget = self._admit(planned, budget, chunk_max, ahead_of=request.priority)
            if budget > 0:
                planned.append(PlannedSlice(request, min(request.pending, budget, chunk_max)))
                budget -= planned[-1].length
        if not preempted:
            self._admit(planned, budget, chunk_max)
        self._blocked = not planned and not preempted
        return planned

    def commit(self, planned: Sequence[PlannedSlice], results: Sequence[SliceResult]) -> None:
        """Take in what the oldest launched step computed, in the order of its plan."""
        self.ahead.land(planned)
        self._ledger.steps += 1
        self._blocked = False
        for piece, result in zip(planned, results, strict=True):
            request = piece.request
            if request.phase is not Phase.RUNNING:
                continue  # it ended while the step was under way
            if result.error is not None:
                self._finish(request, FinishReason.ERROR, error=result.error)
                continue
            request.computed += piece.length
            request.prompt_logprobs.extend(result.prompt_logprobs)
            self._seal(request)
            if request.export:
                self._ledger.tell_progress(request)
            if piece.samples:
                if self._guesses is not None:
                    self._guesses.learn(piece, result)
                self._take_tokens(request, result.samples)

    @property
    def has_events(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._ledger.events)

    def take_events(self) -> tuple[Event, ...]:
        return self._ledger.take_events()

    def take_admitted(self) -> tuple[str, ...]:
        return self._ledger.take_admitted()

    # -- parts --------------------------------------------------------------------------------

    def _expecting(self, request_id: str, happening: Happening) -> Request | None:
        """The request awaiting KV; None if it has ended meanwhile (a cancel may cross)."""
        request = self._requests.get(request_id)
        if request is not None and request.phase is not Phase.AWAITING_KV:
            raise IllegalTransition("request", request.phase.value, happening.value)
        return request

    def _make_room(self, request: Request) -> bool:
        """See that the block of the next token is in the table; preempt for it. True if any was."""
        preempted = False
        while len(request.block_table) * self._pool.block_size <= request.start:
            if self._pool.free_count:
                request.block_table.extend(self._pool.allocate(1))
                break
            # Exports are never victims: their blocks are being read, and they never grow.
            others = (other for other in reversed(self._running) if not other.export)
            victim = max(others, key=_priority)
            self._preempt(victim)
            preempted = True
            if victim is request:
                break
        return preempted

    def _preempt(self, request: Request) -> None:
        request.advance(Happening.PREEMPT)
        self._ledger.preemptions += 1
        self._running.remove(request)
        self._free(request)
        request.prompt_logprobs.clear()
        self._waiting.come_back(request)

    def _admit(
        self,
        planned: list[PlannedSlice],
        budget: int,
        chunk_max: int,
        ahead_of: int | None = None,  # a priority
    ) -> int:
        """What is left of the budget."""
        seats = self.limits.sequences_max
        while self._waiting and len(self._running) + len(self._awaiting) < seats:
            request = self._waiting.first
            if ahead_of is not None and request.priority >= ahead_of:
                break
            if (not request.remote and budget <= 0) or not self._reserve(request):
                break
            self._waiting.leave(request)
            if request.remote:
                request.advance(Happening.EXPECT_KV)
                request.remote = False  # once only: after a preemption it is computed here
                self._awaiting.add(request.request_id)
                held, table = request.sealed_blocks, tuple(request.block_table)
                self._ledger.note(Reserved(request.request_id, table, held))
                continue
            request.advance(Happening.ADMIT)
            self._running.append(request)
            if request.export and request.computed:
                self._ledger.tell_progress(request)
            planned.append(PlannedSlice(request, min(request.pending, budget, chunk_max)))
            budget -= planned[-1].length
        return budget

    def _enter_batch(self, request: Request) -> None:
        self._awaiting.discard(request.request_id)
        self._running.append(request)

    def _reserve(self, request: Request) -> bool:
        """Give a waiting request blocks for all it knows, shared where cached. False: no room."""
        pool = self._pool
        # the last known token at least is computed anew, for its logits; scoring takes all
        shareable = (request.length - 1) // pool.block_size
        if request.params.prompt_logprobs is not None:
            shareable = 0
        ids = request.block_ids(shareable, pool.block_size)
        hits = ids[: pool.count_cached(ids)]
        needed = pool.blocks_for(request.length) - len(hits)
        # Every running request may need a block soon: admitting into that room would only preempt.
        headroom = len(self._running)
        if needed + headroom > pool.free_count - pool.count_idle(hits):
            return False
        request.block_table = pool.share(hits) + pool.allocate(needed)
        request.computed = len(hits) * pool.block_size
        request.sealed_blocks = len(hits)
        self._ledger.admit(request)
        return True

    def _seal(self, request: Request) -> None:
        full = request.computed // self._pool.block_size
        if full > request.sealed_blocks:
            ids = request.block_ids(full, self._pool.block_size)
            for index in range(request.sealed_blocks, full):
                self._pool.seal(request.block_table[index], ids[index])
            request.sealed_blocks = full

    def _take_tokens(self, request: Request, tokens: Sequence[TokenSample]) -> None:
        """Append what a step found, up to the token that ends the request."""
        reason = None
        taken: list[TokenSample] = []
        for token in tokens:
            taken.append(token)
            request.output.append(token.token_id)
            if request.export:
                break
            reason = request.finish_reason(self.eos_token_ids, self.limits.context_length_max)
            if reason is not None:
                break
        request.computed = request.length - 1  # right guesses have their KV already
        self._seal(request)
        self._ledger.tell(request, taken, finish=reason)
        if request.export:
            request.advance(Happening.HOLD)
            self._running.remove(request)
        elif reason is not None:
            self._drop(request)

    def _finish(self, request: Request, reason: FinishReason, error: str | None = None) -> None:
        self._ledger.tell(request, finish=reason, error=error)
        self._drop(request)

    def _drop(self, request: Request) -> None:
        if request.phase is Phase.RUNNING:
            self._running.remove(request)
        elif request.phase is Phase.WAITING:
            self._waiting.leave(request)
        self._awaiting.discard(request.request_id)
        self._blocked = False
        request.advance(Happening.FINISH)
        self._free(request)
        del self._requests[request.request_id]

    def _free(self, request: Request) -> None:
        self.ahead.release(request)
        request.computed = request.sealed_blocks = 0

    def _prompt_tokens(self) -> int:
        """Tokens to be computed before every request is decoding."""
        chunked = sum(request.pending for request in self._running if request.pending > 1)
        return chunked + sum(request.length for request in self._waiting)

    # -- what others may know -----------------------------------------------------------------

    def has_work(self) -> bool:
        """Whether a step could compute, reserve or report anything."""
        queued = self._waiting and not self._blocked
        return bool(self._running or queued or self._ledger.events or not self.ahead.idle)

    @property
    def awaits_kv(self) -> bool:
        """Whether some prefill worker computes a prompt for a request of ours."""
        return bool(self._awaiting)

    def load(self) -> EngineLoad:
        return self._ledger.load(
            running=len(self._running),
            waiting=len(self._waiting),
            blocks_used=self._pool.held_count,
            prefill_tokens_waiting=self._prompt_tokens(),
            awaiting_kv=len(self._awaiting),
        )

    def audit(self) -> None:
        """Check the pool and the requests against each other. Raises EngineFailure."""
        tables = [request.block_table for request in self._requests.values()]
        self._pool.audit([*tables, *self.ahead.held_tables])
        self._ledger.audit(self._requests.values(), self._waiting, self._running, self._pool)
