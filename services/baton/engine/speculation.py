"""Guessing tokens ahead: where guesses come from, and how many are worth their rows. Pure.

A step computes a request's next token and k guessed ones after it; every guess that is what the
sampler would have drawn there is kept. Draws are counter-based, so the output is, token by token,
what it would have been without guessing: exact for greedy and for sampling, on any worker.

Prompt lookup guesses that what followed the last few tokens before will follow them again.
Knows tokens and shares of hits; knows no model, no batch and no clock.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from baton.engine.constraint import Constraint

NGRAM_MAX = 4
"""Longer matches are rarer and hardly more often right."""

NGRAM_MIN = 2
"""One token alone says little about the next."""

ACCEPTANCE_MEMORY = 32.0
"""Guesses over which a request's hit rate is remembered: some ten steps, about a paragraph."""

ACCEPTANCE_PRIOR = 0.5
"""Assumed hit rate before anything is known, as strong as `PRIOR_GUESSES` guesses."""

PRIOR_GUESSES = 4.0

PROBE_INTERVAL_STEPS = 32
"""A request that has stopped guessing tries one guess this often: its text may have changed."""

GAIN_MIN = 1.05
"""Below this predicted gain guessing does not pay: the prediction itself errs by some percent."""


class Speculation(Enum):
    """Where guesses come from."""

    NONE = "none"
    PROMPT_LOOKUP = "prompt-lookup"
    DRAFT_MODEL = "draft-model"


class PromptLookup:
    """The n-grams of one request's tokens, and where each was seen last."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}  # n-gram -> index just after it

    def extend(self, tokens: Sequence[int]) -> None:
        """Take in the tokens that follow those known so far."""
        for token in tokens:
            # An n-gram is filed once a token follows it: the last one would only find itself.
            end = len(self._tokens)
            for size in range(NGRAM_MIN, NGRAM_MAX + 1):
                if end >= size:
                    self._ends[tuple(self._tokens[end - size : end])] = end
            self._tokens.append(token)

    @property
    def length(self) -> int:
        return len(self._tokens)

    def guess(self, count: int, match_min: int = NGRAM_MIN) -> tuple[int, ...]:
        """Up to `count` tokens that followed the longest earlier match; none without a match of
        `match_min` tokens."""
        end = len(self._tokens)
        for size in range(min(NGRAM_MAX, end), match_min - 1, -1):
            found = self._ends.get(tuple(self._tokens[end - size : end]))
            if found is not None:
                return tuple(self._tokens[found : found + count])
        return ()


@dataclass(frozen=True, slots=True)
class StepCosts:
    """What a decode step costs: `base_s` whatever is in it, `row_s` per computed row."""

    base_s: float
    row_s: float

    def step_s(self, rows: float) -> float:
        return self.base_s + self.row_s * rows


class Acceptance:
    """How often one request's guesses were right lately."""

    def __init__(self) -> None:
        self._hits = ACCEPTANCE_PRIOR * PRIOR_GUESSES
        self._guesses = PRIOR_GUESSES
        self._idle_steps = 0
        self._tried = False  # whether any guess was checked

    @property
    def rate(self) -> float:
        return self._hits / self._guesses

    def note(self, *, guessed: int, accepted: int) -> None:
        """A step checked `guessed` guesses in order; `accepted` were right, then one wrong."""
        tried = min(guessed, accepted + 1)  # what comes after a wrong guess was never tried
        keep = max(0.0, 1.0 - tried / ACCEPTANCE_MEMORY)
        self._hits = self._hits * keep + accepted
        self._guesses = self._guesses * keep + tried
        self._idle_steps = 0
        self._tried = True

    @property
    def unsure(self) -> bool:
        """Nothing was checked yet, or for so long that it is time for a probe."""
        return not self._tried or self._idle_steps >= PROBE_INTERVAL_STEPS

    def due_for_probe(self) -> bool:
        """Count a step without guesses; True when it is time to try one again."""
        self._idle_steps += 1
        return self._idle_steps >= PROBE_INTERVAL_STEPS


class Guessing:
    """What guessing knows of one request."""

    def __init__(self) -> None:
        self.lookup = PromptLookup()
        self.acceptance = Acceptance()
        self.read = 0  # tokens a draft model has read
        self.table: list[int] = []  # into these blocks
        self.forced: tuple[int, ...] = ()  # what a grammar makes certain, as of the last wish


class Speculative(Protocol):
    """What guessing needs of a request."""

    guessing: Guessing

    @property
    def constraint(self) -> Constraint | None: ...

    @property
    def output(self) -> Sequence[int]: ...

    @property
    def length(self) -> int: ...

    def tokens(self, start: int, end: int) -> Sequence[int]: ...


def expected_tokens(rate: float, guesses: int) -> float:
    """Tokens a step yields: one, and each guess that follows only right ones."""
    return sum(rate**index for index in range(guesses + 1))


def guess_count(
    rate: float, *, requests: int, costs: StepCosts, guesses_max: int, guess_share: float = 0.0
) -> int:
    """How many guesses per request make a step of `requests` decodes yield the most per second.

    `guess_share`: what making one guess for all takes, as a share of a step without guesses.
    0 when none does clearly better than not guessing.
    """
    if costs.base_s + costs.row_s <= 0.0:
        return 0  # nothing is known about the machine yet
    plain_s = costs.step_s(requests)
    longest_s = costs.step_s(requests * (1 + guesses_max))
    if plain_s * (1 + guesses_max * rate) <= GAIN_MIN * longest_s:
        return 0  # not even if each guess were right as often as the first: so of most requests
    best, best_yield = 0, GAIN_MIN / plain_s
    for guesses in range(1, guesses_max + 1):
        guessing_s = guesses * guess_share * plain_s
        step_s = costs.step_s(requests * (1 + guesses)) + guessing_s
        yielded = expected_tokens(rate, guesses) / step_s
        if yielded > best_yield:
            best, best_yield = guesses, yielded
    return best


class Guesser(Protocol):
    """Where guesses come from. Called while a step is planned, from the engine's thread."""

    def wish(self, request: Speculative, *, decoding: int) -> int:
        """How many guesses `request` should get in a step of `decoding` decodes."""
        ...

    def guess(self, wanted: Sequence[tuple[Speculative, int]]) -> Sequence[tuple[int, ...]]:
        """Up to so many guesses for each request, in order."""
        ...

    def learn(self, request: Speculative, guessed: int, accepted: int) -> None:
        """The first `accepted` of `guessed` guesses were right."""
        ...


class PayingGuesser:
    """Decides by cost and luck how many guesses to make. Where they come from is its child's."""

    def __init__(
        self, costs: Callable[[], StepCosts], *, guesses_max: int, guess_share: float = 0.0
    ) -> None:
        """`costs`: what is known of the machine by now; zeros while nothing is."""
        self._costs = costs
        self._guesses_max = guesses_max
        self._guess_share = guess_share

    def wish(self, request: Speculative, *, decoding: int) -> int:
        acceptance = request.guessing.acceptance
        count = guess_count(
            acceptance.rate,
            requests=decoding,
            costs=self._costs(),
            guesses_max=self._guesses_max,
            guess_share=self._guess_share,
        )
        return 1 if count == 0 and acceptance.due_for_probe() else count

    def learn(self, request: Speculative, guessed: int, accepted: int) -> None:
        request.guessing.acceptance.note(guessed=guessed, accepted=accepted)


class PromptLookupGuesser(PayingGuesser):
    """Guesses from the request's own text."""

    def wish(self, request: Speculative, *, decoding: int) -> int:
        """None where the text so far ends as it never did before. A request's first guess, and one
        of a request that has stopped, waits for text that repeats at length: chance repeats a pair
        of tokens all the time."""
        count = super().wish(request, decoding=decoding)
        match_min = NGRAM_MAX if request.guessing.acceptance.unsure else NGRAM_MIN
        return count if count and self._read(request).guess(1, match_min) else 0

    def guess(self, wanted: Sequence[tuple[Speculative, int]]) -> Sequence[tuple[int, ...]]:
        return [self._read(request).guess(count) if count else () for request, count in wanted]

    def _read(self, request: Speculative) -> PromptLookup:
        """Up to date; a request without guesses is not read, which is work in every step."""
        lookup = request.guessing.lookup
        lookup.extend(request.tokens(lookup.length, request.length))
        return lookup
