"""How many threads a small step gets: what its like took decides; the other way is looked at."""

from collections.abc import Callable

import pytest
from baton.engine.crewing import ALONE_WORTH, PROBE_STEPS, RECENT_STEPS, ROWS_MAX, Crewing

MACHINES: dict[str, tuple[Callable[[bool], float], bool]] = {
    "one core reads as fast as all": (lambda alone: 3.0 if alone else 3.1, True),
    "more cores read more": (lambda alone: 5.0 if alone else 3.0, False),
    "a little slower alone is worth a free core": (
        lambda alone: 3.0 * (ALONE_WORTH - 0.01) if alone else 3.0,
        True,
    ),
}


def run(
    crewing: Crewing, duration_s: Callable[[bool], float], steps: int, rows: int = 1
) -> list[bool]:
    chosen = []
    for _ in range(steps):
        alone = crewing.alone(rows, 300)
        crewing.note(rows, 300, alone=alone, seconds=duration_s(alone))
        chosen.append(alone)
    return chosen


@pytest.mark.parametrize("machine", MACHINES)
def test_the_faster_way_is_found_and_kept_but_for_a_look_at_the_other(machine: str) -> None:
    duration_s, alone = MACHINES[machine]
    chosen = run(Crewing(), duration_s, 2 * RECENT_STEPS + 40 * PROBE_STEPS)[2 * RECENT_STEPS :]
    assert sum(choice is not alone for choice in chosen) == 40


def test_at_first_both_ways_take_turns() -> None:
    chosen = run(Crewing(), MACHINES["more cores read more"][0], 2 * RECENT_STEPS)
    assert chosen == [False, True] * RECENT_STEPS


def test_a_machine_that_changes_is_noticed() -> None:
    crewing = Crewing()
    run(crewing, MACHINES["more cores read more"][0], 400)
    busy = run(crewing, lambda alone: 5.0 if alone else 9.0, RECENT_STEPS * PROBE_STEPS)
    assert sum(busy[-PROBE_STEPS:]) >= PROBE_STEPS - 1


def test_one_interrupted_step_decides_nothing() -> None:
    crewing = Crewing()
    run(crewing, MACHINES["more cores read more"][0], 400)
    crewing.note(1, 300, alone=False, seconds=20.0)
    assert sum(run(crewing, MACHINES["more cores read more"][0], PROBE_STEPS)) <= 1


@pytest.mark.parametrize("slow", range(6))
def test_a_slow_beginning_is_not_held_against_either_way(slow: int) -> None:
    """Threads that just began, memory that nobody has touched, another worker loading its model."""
    crewing = Crewing()
    run(crewing, lambda alone: 90.0, slow)
    chosen = run(crewing, MACHINES["more cores read more"][0], 2 * RECENT_STEPS + PROBE_STEPS)
    assert sum(chosen[-PROBE_STEPS:]) <= 1


def test_kinds_of_steps_do_not_speak_for_each_other() -> None:
    crewing = Crewing()
    run(crewing, MACHINES["one core reads as fast as all"][0], 400)
    assert run(crewing, MACHINES["more cores read more"][0], 400, rows=8)[-5:] == [False] * 5
    assert run(crewing, MACHINES["one core reads as fast as all"][0], 3)[-1]


def test_large_steps_are_for_all_threads() -> None:
    crewing = Crewing()
    assert not any(run(crewing, lambda alone: 1.0 if alone else 9.0, 100, rows=ROWS_MAX + 1))
