"""Guesses that a grammar makes certain, and whose turn it is where nothing is."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from baton.engine.constraint import Constraint
from baton.engine.forced import FORCED_MAX, ForcedGuesser
from baton.engine.speculation import Guessing, Speculative
from support.fixed_constraint import FixedConstraint

# After 1 there is no choice but 2, 3; after 3 there is.
TABLE = FixedConstraint({(): (1, 9), (1,): (2,), (1, 2): (3,), (1, 2, 3): (4, 5)}, 16)
LONG = FixedConstraint({(7,) * count: (7,) for count in range(100)}, 16)


@dataclass(eq=False)
class Talk:
    """A request as guessers see it."""

    output: list[int] = field(default_factory=list)
    constraint: Constraint | None = None
    guessing: Guessing = field(default_factory=Guessing)

    @property
    def length(self) -> int:
        return len(self.output)

    def tokens(self, start: int, end: int) -> Sequence[int]:
        return self.output[start:end]


class Other:
    """Guesses 8, as often as it is asked, and keeps what it hears."""

    def __init__(self) -> None:
        self.learned: list[tuple[int, int]] = []

    def wish(self, request: Speculative, *, decoding: int) -> int:
        return 2

    def guess(self, wanted: Sequence[tuple[Speculative, int]]) -> Sequence[tuple[int, ...]]:
        return [(8,) * count for _, count in wanted]

    def learn(self, request: Speculative, guessed: int, accepted: int) -> None:
        self.learned.append((guessed, accepted))


def guessed(guesser: ForcedGuesser, *requests: Talk) -> list[tuple[int, ...]]:
    wanted = [(request, guesser.wish(request, decoding=len(requests))) for request in requests]
    return list(guesser.guess(wanted))


def test_what_must_follow_is_guessed_as_far_as_it_is_certain() -> None:
    guesser = ForcedGuesser(None)
    assert guessed(guesser, Talk([1], TABLE), Talk([], TABLE), Talk([1])) == [(2, 3), (), ()]


def test_a_step_takes_only_so_many() -> None:
    assert guessed(ForcedGuesser(None), Talk([], LONG)) == [(7,) * FORCED_MAX]


def test_fewer_are_guessed_where_there_is_less_room() -> None:
    guesser, request = ForcedGuesser(None), Talk([1], TABLE)
    assert guesser.wish(request, decoding=1) == 2
    assert guesser.guess([(request, 1)]) == [(2,)]
    assert guesser.guess([(request, 0)]) == [()]


def test_what_was_certain_once_is_not_guessed_again() -> None:
    guesser, request = ForcedGuesser(Other()), Talk([1], TABLE)
    assert guessed(guesser, request) == [(2, 3)]
    request.output += [2, 3]
    assert guessed(guesser, request) == [(8, 8)]


def test_where_nothing_is_certain_the_other_guesses() -> None:
    guesser = ForcedGuesser(Other())
    found = guessed(guesser, Talk([1], TABLE), Talk([], TABLE), Talk([1]))
    assert found == [(2, 3), (8, 8), (8, 8)]


def test_the_other_hears_of_its_own_luck_alone() -> None:
    other = Other()
    guesser = ForcedGuesser(other)
    certain, free = Talk([1], TABLE), Talk([1])
    guessed(guesser, certain, free)
    guesser.learn(certain, 2, 2)
    guesser.learn(free, 2, 1)
    assert other.learned == [(2, 1)]
    certain.output = [1, 2, 3]
    guessed(guesser, certain)
    guesser.learn(certain, 2, 0)
    assert other.learned == [(2, 1), (2, 0)]
