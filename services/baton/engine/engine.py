"""The step loop's body: plan, run, commit. Owned by one thread; commands are applied between steps.

Knows no asyncio, no transport and no tensors: the runner behind its one call does the computing.
"""

from collections.abc import Sequence
from typing import assert_never

from baton.engine.batch import BatchSlice, KvStore, Runner, SampleRequest, StepBatch
from baton.engine.blocks import BlockPool
from baton.engine.messages import (
    Cancel,
    Command,
    KvArrived,
    KvComplete,
    KvLost,
    Release,
    StepReport,
    Submit,
)
from baton.engine.plan import PlannedSlice
from baton.engine.scheduler import Scheduler
from baton.engine.stepshape import shape_of


class Engine:
    def __init__(self, scheduler: Scheduler, pool: BlockPool, runner: Runner, kv: KvStore) -> None:
        self.kv = kv
        self.block_size = pool.block_size
        self.block_count = pool.block_count
        self.context_length_max = scheduler.limits.context_length_max
        self._scheduler = scheduler
        self._pool = pool
        self._runner = runner

    def apply(self, command: Command) -> None:
        """Take one command. A Submit that can never run raises PromptTooLong or InvalidRequest."""
        match command:
            case Submit():
                self._scheduler.submit(command)
            case Cancel(request_id, reason):
                self._scheduler.cancel(request_id, reason)
            case KvArrived(request_id, blocks):
                self._scheduler.kv_arrived(request_id, blocks)
            case KvComplete(request_id, token, cached_tokens):
                self._scheduler.kv_complete(request_id, token, cached_tokens)
            case KvLost(request_id):
                self._scheduler.kv_lost(request_id)
            case Release(request_id):
                self._scheduler.release(request_id)
            case _:
                assert_never(command)

    def step(self) -> StepReport:
        """Run at most one model step and report all that happened since the last report.

        Raises EngineFailure when the runner fails; the engine is then of no further use.
        """
        planned = self._scheduler.plan()
        shape = None
        if planned:
            batch = StepBatch(tuple(self._slice(p) for p in planned))
            shape = shape_of(batch.slices)
            results = self._runner.run(batch)
            self._scheduler.commit(planned, results)
        added, removed = self._pool.take_changes()
        events, load = self._scheduler.take_events(), self._scheduler.load()
        return StepReport(
            events, added, removed, load, shape, admitted=self._scheduler.take_admitted()
        )

    def has_work(self) -> bool:
        """Whether a step may have something to compute, reserve or report."""
        return self._scheduler.has_work()

    def cached_ids(self) -> Sequence[bytes]:
        """Ids of all blocks in the prefix cache, for a snapshot."""
        return self._pool.cached_ids()

    def audit(self) -> None:
        """Check every invariant of pool and scheduler. Raises EngineFailure."""
        self._scheduler.audit()

    def _slice(self, planned: PlannedSlice) -> BatchSlice:
        request = planned.request
        start, end = request.computed, request.computed + planned.length
        sample = None
        if planned.samples:
            sample = SampleRequest(
                request.params, request.prompt, request.output, self._scheduler.eos_token_ids
            )
        scored = request.params.prompt_logprobs
        following: Sequence[int] = ()
        if scored is not None:
            following = request.prompt[start + 1 : end + 1]
        return BatchSlice(
            request.request_id,
            (*request.tokens(start, end), *planned.guesses),
            start,
            request.block_table,
            sample,
            scored if following else None,
            following,
            len(planned.guesses),
        )
