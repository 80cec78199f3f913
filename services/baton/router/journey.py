"""What one request has so far, over all its tries: its output, where it failed, what it needs next.

Pure. A worker that said it was going is no failure, however often that happens: each process is
tried once, so a rollout moves a request at most as often as it replaces workers.
"""

import dataclasses
from collections.abc import Collection

import msgspec

from baton.common.errors import (
    BatonError,
    DeadlineExceeded,
    Draining,
    EngineFailure,
    SloUnattainable,
    Unavailable,
    WorkerFailed,
)
from baton.engine.params import FinishReason
from baton.router.decide import Decision, Need
from baton.router.fleet import Layout, WorkerView
from baton.router.picture import Prompt
from baton.router.work import Submission, Update, Work

TRIES_MAX = 3
"""Two workers may fail under a request by bad luck; a third failure is rarely luck."""

CRASHES_MAX = 2
"""A request that was running in this many worker crashes may well be their cause."""


class Journey:
    def __init__(self, work: Work) -> None:
        self.work = work
        self.output: list[int] = []
        self.last_error: BatonError | None = None
        self._submissions = 0
        self._failures = 0
        self._crashes = 0
        self._avoid: frozenset[tuple[str, int]] = frozenset()
        self._layout: Layout | None = None
        self._told_first = False

    def need(self, now_s: float) -> Need:
        """Once it has a first token no other one is waited for."""
        by_s = None if self._told_first else self.work.first_token_by_s
        return Need(
            tokens=len(self.work.prompt) + self.work.params.max_tokens,
            prompt_tokens=len(self.work.prompt) + len(self.output),
            prompt_logprobs=self._prompt_logprobs() is not None,
            avoid=self._avoid,
            # Another model, or KV of another precision, would continue with other tokens.
            layout=self._layout if self.output else None,
            within_s=None if by_s is None else by_s - now_s,
        )

    def prompt(self) -> Prompt:
        """What the next worker has to compute."""
        tokens = (*self.work.prompt, *self.output) if self.output else self.work.prompt
        return Prompt(tokens, self.work.cache_salt)

    def submission(
        self, decision: Decision, remaining_s: float, traceparent: str = ""
    ) -> Submission:
        params = dataclasses.replace(self.work.params, prompt_logprobs=self._prompt_logprobs())
        self._submissions += 1
        self._layout = decision.decode.layout
        return Submission(
            # Another id per try: late news of an earlier one must not reach a later one.
            request_id=f"{self.work.work_id}-{self._submissions}",
            prompt=self.work.prompt,
            output=tuple(self.output),
            params=params,
            remaining_s=remaining_s,
            prefill_candidates=decision.prefill_candidates,
            cache_salt=self.work.cache_salt,
            traceparent=traceparent,
            # Workers know no tenants, none of whom may get before another by a number.
            priority=self.work.priority if self.work.tenant is None else 0,
        )

    def take(self, update: Update) -> Update:
        """Add an update to the output; raises the error it carries. What only the first update
        tells is told once, although each try has a first update."""
        finish = update.finish
        # Most have none, and a look at a member of an enumeration is a call.
        if finish is not None and finish not in (FinishReason.STOP, FinishReason.LENGTH):
            raise _failure(update)
        self.output.extend([sample.token_id for sample in update.tokens])
        if not self._told_first:
            self._told_first = True
            return update
        if update.cached_tokens is None and not update.prompt_logprobs:
            return update
        return msgspec.structs.replace(update, cached_tokens=None, prompt_logprobs=())

    def note_failure(
        self, view: WorkerView, error: BatonError, *, lost: bool, polite: bool
    ) -> None:
        """`lost`: the worker went away with the request; `polite`: it had said that it would.

        Raises where another try cannot help or would be one too many.
        """
        self._avoid |= {view.process}
        self.last_error = error
        crashed = isinstance(error, WorkerFailed)  # it says that it goes as well, but not why
        if not crashed and (polite or isinstance(error, Draining)):
            return
        self._failures += 1
        self._crashes += lost or crashed
        if self._crashes >= CRASHES_MAX:
            raise EngineFailure(
                f"{self._crashes} workers went away while they ran this request; it is not tried "
                "again"
            )
        if not error.retryable or self._failures >= TRIES_MAX:
            raise error

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


def too_late() -> DeadlineExceeded:
    return DeadlineExceeded("the request did not finish within its time limit")


def no_use(expected_s: float, within_s: float) -> SloUnattainable:
    return SloUnattainable(
        f"the first token is expected in {max(0.0, expected_s):.3f} s; it was asked for within "
        f"{max(0.0, within_s):.3f} s from now",
        late_s=expected_s - within_s,
    )


def _failure(update: Update) -> BatonError:
    match update.finish:
        case FinishReason.DEADLINE:
            return too_late()
        case FinishReason.CANCELLED:  # we did not ask for it: the worker let go of it
            return Unavailable("the decode worker gave the request up")
    error = update.error or EngineFailure("the decode worker reported an error without a reason")
    if update.retryable and not error.retryable:
        return Unavailable(error.message)
    return error
