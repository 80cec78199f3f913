"""Who leads: one decision from a Lease, by the rules of Kubernetes' own leader election. Pure.

A holder's time is measured on our clock from when we saw its record change: clocks of two nodes are
never compared. Knows no API server.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from baton_operator.manifest import Manifest, int_at, mapping_at, text_at

LEASE_S = 15
"""A holder that is silent for so long has lost it."""

RENEW_DEADLINE_S = 10.0
"""A leader that could not renew for so long stops by itself, well before another may start."""

RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a Lease says; times as they are written, to be compared and never computed with."""

    holder: str = ""
    duration_s: int = LEASE_S
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0


@dataclass(frozen=True, slots=True)
class Sighting:
    """A record, and when on our clock it was first seen like that."""

    record: LeaseRecord
    seen_s: float


class Move(Enum):
    CREATE = "create"  # there is no Lease
    TAKE = "take"  # nobody holds it any more
    RENEW = "renew"  # it is ours
    WAIT = "wait"  # somebody else leads


def read_record(lease: Manifest) -> LeaseRecord:
    spec = mapping_at(lease, "spec")
    return LeaseRecord(
        text_at(spec, "holderIdentity"),
        int_at(spec, "leaseDurationSeconds") or LEASE_S,
        text_at(spec, "acquireTime"),
        text_at(spec, "renewTime"),
        int_at(spec, "leaseTransitions") or 0,
    )


def sight(record: LeaseRecord, before: Sighting | None, now_s: float) -> Sighting:
    if before is not None and before.record == record:
        return before
    return Sighting(record, now_s)


def next_move(sighting: Sighting | None, me: str, now_s: float) -> Move:
    """What the candidate `me` does. None: there is no Lease."""
    if sighting is None:
        return Move.CREATE
    if sighting.record.holder == me:
        return Move.RENEW
    if not sighting.record.holder:
        return Move.TAKE  # its holder has let go
    expired = now_s - sighting.seen_s >= sighting.record.duration_s
    return Move.TAKE if expired else Move.WAIT


def claimed(record: LeaseRecord | None, me: str, now: datetime) -> LeaseRecord:
    """The record that says `me`, from now on or as before."""
    moment = micro_time(now)
    if record is None:
        return LeaseRecord(me, LEASE_S, moment, moment)
    if record.holder == me:
        return replace(record, duration_s=LEASE_S, renewed=moment)
    return LeaseRecord(me, LEASE_S, moment, moment, record.transitions + 1)


def released(record: LeaseRecord, now: datetime) -> LeaseRecord:
    """The record without a holder: the next one need not wait."""
    return replace(record, holder="", renewed=micro_time(now))


def lease_spec(record: LeaseRecord) -> Manifest:
    return {
        "holderIdentity": record.holder,
        "leaseDurationSeconds": record.duration_s,
        "acquireTime": record.acquired,
        "renewTime": record.renewed,
        "leaseTransitions": record.transitions,
    }


def micro_time(moment: datetime) -> str:
    """Kubernetes' MicroTime."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
