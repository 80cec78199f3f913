"""Whether a small step is worth more than one thread: learned from the steps themselves. Pure.

A lone request's step is bound by reading the weights, and on some machines one core reads them as
fast as all. There a second thread gains nothing, and takes its core from whoever has to deliver the
token. Which machine this is, and what else runs on it, only the steps' durations tell. Results do
not depend on the choice. Knows rows, tokens and seconds; knows no threads.
"""

from dataclasses import dataclass, field

ROWS_MAX = 16
"""Larger steps are bound by arithmetic, of which more threads do more."""

ALONE_WORTH = 1.03
"""A step alone may take so much longer than one of all threads: the cores it leaves are of use."""

PROBE_STEPS = 32
"""One step in so many is computed the other way: often enough to notice within a second that the
machine has changed, rarely enough not to be noticed."""

MEMORY_STEPS = 16
"""Over which durations are averaged: a step that was interrupted should not decide."""


@dataclass(slots=True)
class Pace:
    """Mean seconds of the last steps of one kind."""

    mean_s: float = 0.0
    steps: int = 0

    def note(self, seconds: float) -> None:
        self.steps = min(self.steps + 1, MEMORY_STEPS)
        self.mean_s += (seconds - self.mean_s) / self.steps


@dataclass(slots=True)
class Kind:
    """Steps alike in size: of rows, and of tokens they attend to, within a factor of two."""

    alone: Pace = field(default_factory=Pace)
    together: Pace = field(default_factory=Pace)
    steps: int = 0

    def better_alone(self) -> bool:
        return bool(self.alone.steps) and (self.alone.mean_s <= ALONE_WORTH * self.together.mean_s)


class Crewing:
    """Of one decoder. Kinds are few: sizes grow by factors of two."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[int, int], Kind] = {}

    def alone(self, rows: int, kv_tokens: int) -> bool:
        """Whether the next step of so many rows, which attend to so many tokens in all, should be
        one thread's. Counts it."""
        if rows > ROWS_MAX:
            return False
        kind = self._kind(rows, kv_tokens)
        kind.steps += 1
        better = kind.better_alone()
        return not better if kind.steps % PROBE_STEPS == 2 else better

    def note(self, rows: int, kv_tokens: int, *, alone: bool, seconds: float) -> None:
        """How long that step took."""
        if rows <= ROWS_MAX:
            kind = self._kind(rows, kv_tokens)
            (kind.alone if alone else kind.together).note(seconds)

    def _kind(self, rows: int, kv_tokens: int) -> Kind:
        return self._kinds.setdefault((rows.bit_length(), kv_tokens.bit_length()), Kind())
