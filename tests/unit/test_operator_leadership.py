"""Who leads: every state of a Lease, and what a candidate does about it."""

from datetime import UTC, datetime

import pytest
from baton_operator.leadership import (
    LEASE_S,
    RENEW_DEADLINE_S,
    RETRY_S,
    LeaseRecord,
    Move,
    Sighting,
    claimed,
    lease_spec,
    micro_time,
    next_move,
    read_record,
    released,
    sight,
)

NOW = datetime(2026, 11, 22, 20, 0, 0, 5, UTC)
OURS = LeaseRecord("me", LEASE_S, "t0", "t1", 3)
THEIRS = LeaseRecord("other", LEASE_S, "t0", "t1", 3)
FREE = LeaseRecord("", LEASE_S, "t0", "t1", 3)


@pytest.mark.parametrize(
    ("record", "age_s", "move"),
    [
        (None, 0.0, Move.CREATE),
        (OURS, 0.0, Move.RENEW),
        (OURS, 1_000.0, Move.RENEW),
        (THEIRS, 0.0, Move.WAIT),
        (THEIRS, LEASE_S - 0.1, Move.WAIT),
        (THEIRS, LEASE_S, Move.TAKE),
        (FREE, 0.0, Move.TAKE),
    ],
)
def test_what_a_candidate_does(record: LeaseRecord | None, age_s: float, move: Move) -> None:
    sighting = None if record is None else Sighting(record, 50.0)
    assert next_move(sighting, "me", 50.0 + age_s) is move


def test_a_holders_own_duration_counts() -> None:
    """It may be of another version, with other constants."""
    patient = Sighting(LeaseRecord("other", 60, "t0", "t1"), 0.0)
    assert next_move(patient, "me", 59.0) is Move.WAIT
    assert next_move(patient, "me", 60.0) is Move.TAKE


def test_a_leader_stops_before_another_may_start() -> None:
    assert RENEW_DEADLINE_S + 2 * RETRY_S < LEASE_S


def test_time_is_measured_from_when_a_record_changed() -> None:
    first = sight(THEIRS, None, 10.0)
    assert sight(THEIRS, first, 20.0) == first
    renewed = LeaseRecord("other", LEASE_S, "t0", "t2", 3)
    assert sight(renewed, first, 20.0) == Sighting(renewed, 20.0)


def test_a_claim_counts_transitions_and_a_renewal_does_not() -> None:
    assert claimed(None, "me", NOW).transitions == 0
    taken = claimed(THEIRS, "me", NOW)
    assert (taken.holder, taken.transitions, taken.acquired) == ("me", 4, micro_time(NOW))
    renewed = claimed(OURS, "me", NOW)
    assert (renewed.transitions, renewed.acquired, renewed.renewed) == (3, "t0", micro_time(NOW))


def test_a_released_lease_can_be_taken_at_once() -> None:
    free = released(OURS, NOW)
    assert next_move(Sighting(free, 0.0), "other", 0.0) is Move.TAKE


def test_a_record_reads_as_it_was_written() -> None:
    assert read_record({"spec": lease_spec(OURS)}) == OURS


def test_a_lease_somebody_made_by_hand_is_free() -> None:
    assert next_move(Sighting(read_record({}), 0.0), "me", 0.0) is Move.TAKE


def test_times_are_kubernetes_micro_times() -> None:
    assert micro_time(NOW) == "2026-11-22T20:00:00.000005Z"
