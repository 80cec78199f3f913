"""Restart decisions: backoff, forgetting, giving up. Times are given, nothing runs."""

import pytest
from baton.cli.child import described_exit
from baton.cli.restarts import DeathRecord, GiveUp, Restart, RestartPolicy

POLICY = RestartPolicy(delay_first_s=1.0, delay_max_s=3.0, deaths_max=4, window_s=60.0)


def decisions(times_s: list[float], policy: RestartPolicy = POLICY) -> list[Restart | GiveUp]:
    record, made = DeathRecord(), []
    for time_s in times_s:
        record, decision = record.after(time_s, policy)
        made.append(decision)
    return made


def test_first_death_is_followed_by_the_shortest_delay() -> None:
    assert decisions([10.0]) == [Restart(1.0)]


def test_delays_double_up_to_the_limit_and_then_patience_ends() -> None:
    assert decisions([0, 1, 2, 3]) == [Restart(1.0), Restart(2.0), Restart(3.0), GiveUp(4, 60.0)]


def test_deaths_outside_the_window_are_forgotten_with_their_backoff() -> None:
    assert decisions([0, 1, 2, 100]) == [Restart(1.0), Restart(2.0), Restart(3.0), Restart(1.0)]


def test_a_death_exactly_one_window_ago_no_longer_counts() -> None:
    assert decisions([0, 60]) == [Restart(1.0), Restart(1.0)]
    assert decisions([0, 59.9]) == [Restart(1.0), Restart(2.0)]


def test_rare_deaths_never_exhaust_patience_and_the_record_stays_small() -> None:
    record = DeathRecord()
    for hour in range(1000):
        record, decision = record.after(hour * 3600.0, POLICY)
        assert decision == Restart(1.0)
    assert len(record.times_s) == 1


def test_default_delays_fit_into_the_window() -> None:
    policy = RestartPolicy()
    made = decisions([float(second) for second in range(policy.deaths_max)], policy)
    waits = [decision.delay_s for decision in made if isinstance(decision, Restart)]
    assert isinstance(made[-1], GiveUp)
    assert sum(waits) < policy.window_s / 2


@pytest.mark.parametrize(
    ("code", "text"),
    [(0, "exit code 0"), (1, "exit code 1"), (-9, "signal SIGKILL"), (-250, "signal 250")],
)
def test_exit_reads_as_people_say_it(code: int, text: str) -> None:
    assert described_exit(code) == text
