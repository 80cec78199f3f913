"""Whether the router can serve, and what it says where it cannot."""

import pytest
from baton.router.fleet import Fleet, WorkerState
from baton.router.readiness import readiness
from support.fake_fleet import decode_worker

SERVING = Fleet((decode_worker("a:1"),))
STARTING = Fleet((decode_worker("a:1", state=WorkerState.STARTING),))


@pytest.mark.parametrize(
    ("fleet", "draining", "unlisted", "from_zero", "ready", "status"),
    [
        (SERVING, False, (), False, True, "ready"),
        (STARTING, False, (), False, False, "no decode worker is ready"),
        (STARTING, False, (), True, True, "ready; requests wait for a decode worker"),
        (Fleet(), False, (), True, True, "ready; requests wait for a decode worker"),
        (Fleet(), False, ("endpoints of n/s: why",), True, False, "endpoints of n/s: why"),
        (SERVING, False, ("endpoints of n/s: why",), False, False, "endpoints of n/s: why"),
        (SERVING, True, (), True, False, "draining"),
    ],
)
def test_readiness(
    fleet: Fleet,
    draining: bool,
    unlisted: tuple[str, ...],
    from_zero: bool,
    ready: bool,
    status: str,
) -> None:
    told = readiness(fleet, draining=draining, unlisted=unlisted, scale_from_zero=from_zero)
    assert (told.ready, told.status) == (ready, status)
    assert told.workers["decode"] == len(fleet.workers) - (fleet is STARTING)
