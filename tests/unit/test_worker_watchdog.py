"""A worker that stands still is given up, a slow, idle or suspended one is not: the watchdog's
judgement, look by look."""

from baton.engine.stepshape import decode_shape
from baton.worker.progress import Phase
from baton.worker.watchdog import (
    EXIT_LIMIT_S,
    LOOP_LIMIT_S,
    STEP_LIMIT_RATIO,
    STEP_LIMIT_S,
    Limits,
    Verdict,
    Watchdog,
)
from hypothesis import given
from hypothesis import strategies as st

STUCK = Phase(7, decode_shape(1, 100))


class World:
    """A process whose loop beats unless told otherwise, looked at every second."""

    def __init__(self) -> None:
        self.watchdog = Watchdog(Limits())
        self.beats = 0

    def look(
        self,
        phase: Phase | None = None,
        *,
        predicted_s: float = 0.0,
        beating: bool = True,
        elapsed_s: float = 1.0,
    ) -> Verdict:
        self.beats += beating
        self.watchdog.look(elapsed_s, phase, predicted_s, self.beats)
        return self.watchdog.verdict

    def looks_until_verdict(self, phase: Phase | None, **how: object) -> int:
        """How many looks a verdict other than FINE takes."""
        for count in range(1, 10_000):
            if self.look(phase, **how) is not Verdict.FINE:  # type: ignore[arg-type]
                return count
        raise AssertionError("never")


def test_an_idle_worker_is_fine_for_ever() -> None:
    world = World()
    assert all(world.look(None) is Verdict.FINE for _ in range(10_000))


def test_steps_that_end_are_fine_for_ever() -> None:
    world = World()
    for number in range(1, 10_000):
        assert world.look(Phase(number, decode_shape(1, 1))) is Verdict.FINE


def test_a_step_that_does_not_end_is_stuck_after_the_limit() -> None:
    world = World()
    # The first look only learns that the step is there.
    assert world.looks_until_verdict(STUCK) == STEP_LIMIT_S + 1
    assert world.watchdog.verdict is Verdict.STEP_STUCK


def test_planning_that_does_not_end_is_stuck_as_well() -> None:
    world = World()
    assert world.looks_until_verdict(Phase(3, None)) == STEP_LIMIT_S + 1


def test_a_step_that_is_known_to_be_long_has_longer() -> None:
    world = World()
    predicted_s = 2 * STEP_LIMIT_S / STEP_LIMIT_RATIO
    assert world.looks_until_verdict(STUCK, predicted_s=predicted_s) == 2 * STEP_LIMIT_S + 1


def test_a_loop_that_does_not_turn_is_stuck_after_its_limit() -> None:
    world = World()
    assert world.looks_until_verdict(None, beating=False) == LOOP_LIMIT_S
    assert world.watchdog.verdict is Verdict.LOOP_STUCK


def test_a_suspended_process_has_not_stood_still() -> None:
    """SIGSTOP for an hour: the watchdog slept too, and the step gets its time from there."""
    world = World()
    world.look(STUCK)
    assert world.look(STUCK, beating=False, elapsed_s=3_600.0) is Verdict.FINE
    assert world.look(Phase(8, None)) is Verdict.FINE


def test_a_verdict_is_final_and_leads_to_the_end() -> None:
    world = World()
    world.looks_until_verdict(STUCK)
    for _ in range(int(EXIT_LIMIT_S) - 1):
        assert world.look(None) is Verdict.STEP_STUCK, "even if the step ends after all"
    assert world.look(None) is Verdict.HOPELESS
    assert world.look(None) is Verdict.HOPELESS


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(1, 3)),
            st.floats(0, 1e6),
            st.booleans(),
            st.floats(0, 100),
        ),
        max_size=200,
    )
)
def test_no_history_is_stuck_in_which_everything_moved_within_its_limit(
    looks: list[tuple[int | None, float, bool, float]],
) -> None:
    """The oracle: the longest run of looks at one phase and without a beat, two seconds a look at
    most."""
    world, same_s, silent_s, last = World(), 0.0, 0.0, None
    for number, elapsed_s, beating, predicted_s in looks:
        phase = None if number is None else Phase(number, None)
        verdict = world.look(phase, predicted_s=predicted_s, beating=beating, elapsed_s=elapsed_s)
        seen_s = min(elapsed_s, 2.0)
        same_s = same_s + seen_s if number is not None and number == last else 0.0
        silent_s = 0.0 if beating else silent_s + seen_s
        last = number
        if verdict is not Verdict.FINE:
            assert same_s >= STEP_LIMIT_S or silent_s >= LOOP_LIMIT_S
            return
        assert same_s < max(STEP_LIMIT_S, STEP_LIMIT_RATIO * predicted_s)
        assert silent_s < LOOP_LIMIT_S
