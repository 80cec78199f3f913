"""The step loop's body: plan, run, commit. Owned by one thread; commands are applied between steps.

With a launcher the next step is planned and launched while the last one's tokens travel back, so
that a device never waits for the host. Knows no asyncio, no transport and no tensors: the runner
does the computing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from baton.engine.batch import (
    BatchSlice,
    KvStore,
    Launcher,
    Runner,
    SampleRequest,
    StepBatch,
    Ticket,
)
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
from baton.engine.request import Phase
from baton.engine.scheduler import Scheduler
from baton.engine.stepshape import StepShape, shape_of


@dataclass(frozen=True, slots=True)
class Launched:
    """A step under way."""

    ticket: Ticket
    planned: Sequence[PlannedSlice]
    shape: StepShape


class Engine:
    """`launcher`: the runner once more, where it can be given a step before the last has ended."""

    def __init__(
        self,
        scheduler: Scheduler,
        pool: BlockPool,
        runner: Runner,
        kv: KvStore,
        launcher: Launcher | None = None,
    ) -> None:
        self.kv = kv
        self.block_size = pool.block_size
        self.block_count = pool.block_count
        self.context_length_max = scheduler.limits.context_length_max
        self._scheduler = scheduler
        self._pool = pool
        self._runner = runner
        self._launcher = launcher
        self._launched: Launched | None = None
        self._kept: Sequence[PlannedSlice] = ()  # planned, and not run yet

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
        """Run at most one model step and report all that happened since the last report. What
        planning it has to tell, and what commands had, is told first: the step is then the next
        call's.

        With a launcher: collect the step under way, if any, behind the launch of the next. Raises
        EngineFailure when the runner fails; the engine is then of no further use.
        """
        launcher = self._launcher
        shape = self._run() if launcher is None else self._launch_and_collect(launcher)
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

    def _run(self) -> StepShape | None:
        planned = [p for p in self._kept if p.request.phase is Phase.RUNNING]  # not ended meanwhile
        self._kept = ()
        if not planned:
            planned = self._scheduler.plan()
            if planned and self._scheduler.has_events:
                self._kept = planned
                return None
        if not planned:
            return None
        batch = self._batch(planned)
        results = self._runner.run(batch)
        self._scheduler.commit(planned, results)
        return shape_of(batch.slices)

    def _launch_and_collect(self, launcher: Launcher) -> StepShape | None:
        """The shape of the step that was collected."""
        before, self._launched = self._launched, self._launch(launcher)
        if before is None:
            return None
        self._scheduler.commit(before.planned, launcher.collect(before.ticket))
        return before.shape

    def _launch(self, launcher: Launcher) -> Launched | None:
        planned = self._scheduler.plan()
        if not planned:
            return None
        batch = self._batch(planned)
        return Launched(launcher.launch(batch), planned, shape_of(batch.slices))

    def _batch(self, planned: Sequence[PlannedSlice]) -> StepBatch:
        """The batch of a plan, which is under way from now on."""
        slices = tuple(self._slice(piece) for piece in planned)
        batch = StepBatch(slices, stands_back=self._scheduler.awaits_kv)
        self._scheduler.ahead.launch(planned)
        return batch

    def _slice(self, planned: PlannedSlice) -> BatchSlice:
        request = planned.request
        start, end = planned.start, planned.start + planned.length
        unknown = end > request.length  # one token: it is being drawn
        sample = None
        if planned.samples:
            sample = SampleRequest(
                request.params,
                request.prompt,
                request.output,
                self._scheduler.eos_token_ids,
                request.drawing,
                request.constraint,
            )
        scored = request.params.prompt_logprobs
        following: Sequence[int] = ()
        if scored is not None:
            following = request.prompt[start + 1 : end + 1]
        return BatchSlice(
            request.request_id,
            (0,) if unknown else (*request.tokens(start, end), *planned.guesses),
            start,
            request.block_table,
            sample,
            scored if following else None,
            following,
            len(planned.guesses),
            self._scheduler.ahead.slice_index(request) if unknown else None,
        )
