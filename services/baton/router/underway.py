"""Work on its way to workers that their last reports cannot know of yet. Pure.

Load is counted when a request is sent, not when its worker tells of it: between the two, a burst
would otherwise all go to the one worker that looked idle. Time comes in as a number.
"""

from collections import deque
from dataclasses import dataclass, replace

from baton.router.fleet import WorkerLoad

SETTLE_S = 0.25
"""A report that left this long after a submission knows of it: a hop, a step and the report's own
interval are well below."""

SENT_MAX = 4_096
"""Per worker, against one that never reports; the oldest is forgotten."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One submission, as it will show in a report."""

    at_s: float
    prefill_tokens: int  # that this worker will have to compute
    blocks: int  # that it will take
    requests: int = 1


class Underway:
    def __init__(self) -> None:
        self._sent: dict[str, deque[Sent]] = {}

    def send(self, address: str, sent: Sent) -> None:
        self._sent.setdefault(address, deque(maxlen=SENT_MAX)).append(sent)

    def reported(self, address: str, now_s: float) -> None:
        """A report of this worker has just come: it speaks for all that was sent well before."""
        waiting = self._sent.get(address)
        while waiting and waiting[0].at_s <= now_s - SETTLE_S:
            waiting.popleft()

    def forget(self, address: str) -> None:
        self._sent.pop(address, None)

    def added_to(self, address: str, load: WorkerLoad) -> WorkerLoad:
        """`load` with what is on its way."""
        sent = self._sent.get(address)
        if not sent:
            return load
        return replace(
            load,
            waiting=load.waiting + sum(one.requests for one in sent),
            blocks_used=load.blocks_used + sum(one.blocks for one in sent),
            prefill_tokens_waiting=load.prefill_tokens_waiting
            + sum(one.prefill_tokens for one in sent),
        )
