"""Whether a small step is worth more than one thread: learned from the steps themselves. Pure.

A lone request's step is bound by reading the weights, and on some machines one core reads them as
fast as all. There a second thread gains nothing, and takes its core from whoever has to deliver the
token. Which machine this is, and what else runs on it, only the steps' durations tell. Results do
not depend on the choice. Knows rows, tokens and seconds; knows no threads.
"""

from collections import deque
from dataclasses import dataclass, field

ROWS_MAX = 16
"""Larger steps are bound by arithmetic, of which more threads do more."""

ALONE_WORTH = 1.03
"""A step alone may take so much longer than one of all threads: the cores it leaves are of use."""

PROBE_STEPS = 32
"""One step in so many is computed the other way: often enough to notice within a second that the
machine has changed, rarely enough not to be noticed. Until both ways are known they take turns."""

RECENT_STEPS = 9
"""Of each way, of which the median counts: no step that was interrupted decides, nor the first one,
which finds memory and threads cold. And a changed machine is noticed after five looks."""


@dataclass(slots=True)
class Pace:
    """Seconds of the last steps of one kind, computed one way."""

    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))

    @property
    def known(self) -> bool:
        return len(self.recent_s) == RECENT_STEPS

    @property
    def typical_s(self) -> float:
        return sorted(self.recent_s)[len(self.recent_s) // 2]


@dataclass(slots=True)
class Kind:
    """Steps alike in size: of rows, and of tokens they attend to, within a factor of two."""

    alone: Pace = field(default_factory=Pace)
    together: Pace = field(default_factory=Pace)
    steps: int = 0

    def next_alone(self) -> bool:
        if not (self.alone.known and self.together.known):
            return len(self.alone.recent_s) < len(self.together.recent_s)
        self.steps += 1
        better = self.alone.typical_s <= ALONE_WORTH * self.together.typical_s
        return not better if self.steps % PROBE_STEPS == 0 else better


class Crewing:
    """Of one decoder. Kinds are few: sizes grow by factors of two."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[int, int], Kind] = {}

    def alone(self, rows: int, kv_tokens: int) -> bool:
        """Whether the next step of so many rows, which attend to so many tokens in all, should be
        one thread's. Counts it."""
        return rows <= ROWS_MAX and self._kind(rows, kv_tokens).next_alone()

    def note(self, rows: int, kv_tokens: int, *, alone: bool, seconds: float) -> None:
        """How long that step took."""
        if rows <= ROWS_MAX:
            kind = self._kind(rows, kv_tokens)
            (kind.alone if alone else kind.together).recent_s.append(seconds)

    def _kind(self, rows: int, kv_tokens: int) -> Kind:
        return self._kinds.setdefault((rows.bit_length(), kv_tokens.bit_length()), Kind())
