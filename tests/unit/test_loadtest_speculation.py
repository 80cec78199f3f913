"""What a measurement of guessing compares: the same tokens, with guesses and without."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from baton.common.clock import SystemClock
from baton.common.errors import EngineFailure
from baton.engine.batch import SliceResult, StepBatch
from baton.engine.params import TokenSample
from baton.engine.runner import CpuRunner
from baton_loadtest.speculation_run import (
    Forms,
    Kind,
    SpeculationOptions,
    SpeculationRow,
    measure_speculation,
)
from support.random_model import random_runner

PASSAGES = [[(index * index * 7 + salt) % 200 for index in range(40)] for salt in (0, 3)]
END = 9
OPTIONS = SpeculationOptions(batch=2, tokens=24, rounds=2, guesses_max=3)


class HalfCertain:
    """A constraint that leaves every other token open, and ends after 23."""

    def allowed(self, output: Sequence[int]) -> bytes | None:
        if len(output) % 2 == 0 and len(output) < 23:
            return b"\xff" * 8
        token = END if len(output) >= 23 else 7
        return bytes(1 << token % 8 if index == token // 8 else 0 for index in range(8))

    def forced(self, output: Sequence[int]) -> Sequence[int]:
        return (7,) if len(output) % 2 and len(output) < 23 else ()


FORMS = Forms(lambda grammar: HalfCertain(), (END,))


class Fickle(CpuRunner):
    """Answers slices with guesses as no slice without them would be answered."""

    def __init__(self, honest: CpuRunner) -> None:
        self._honest, self.cache = honest, honest.cache

    def run(self, batch: StepBatch) -> list[SliceResult]:
        results = self._honest.run(batch)
        return [
            replace(result, samples=(TokenSample(5),)) if piece.guesses else result
            for piece, result in zip(batch.slices, results, strict=True)
        ]


def measured(kind: Kind, runner: CpuRunner | None = None) -> SpeculationRow:
    passages: Sequence[Sequence[int]] = PASSAGES
    return measure_speculation(
        runner or random_runner(), kind, passages, FORMS, OPTIONS, SystemClock()
    )


@pytest.mark.parametrize("kind", Kind)
def test_every_round_says_the_same_and_is_counted(kind: Kind) -> None:
    row = measured(kind)
    assert (row.kind, row.batch) == (kind.value, 2)
    assert row.tokens == 2 * 24 * 2
    assert 0 <= row.guesses_accepted <= row.guesses_made
    assert row.plain_tokens_per_s > 0
    assert row.guessing_tokens_per_s > 0


def test_what_is_certain_is_guessed_and_right() -> None:
    row = measured(Kind.SCHEMA)
    assert row.guesses_made == row.guesses_accepted == 2 * 11 * 2


def test_gain_and_acceptance_are_shares() -> None:
    row = SpeculationRow("x", 1, 100.0, 150.0, guesses_made=8, guesses_accepted=6, tokens=24)
    assert (row.gain, row.acceptance) == (1.5, 0.75)
    assert replace(row, guesses_made=0, guesses_accepted=0).acceptance is None


def test_a_guess_that_changes_a_token_ends_the_measurement() -> None:
    with pytest.raises(EngineFailure, match="guesses changed a token"):
        measured(Kind.REPEATING, Fickle(random_runner()))
