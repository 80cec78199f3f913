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
    told = readiness(
        fleet,
        draining=draining,
        unlisted=unlisted,
        scale_from_zero=from_zero,
        deserted_for_s=None,
        held_s=30.0,
    )
    assert (told.ready, told.status) == (ready, status)
    assert told.workers["decode"] == len(fleet.workers) - (fleet is STARTING)


@pytest.mark.parametrize(("deserted_for_s", "ready"), [(0.0, True), (29.9, True), (30.0, False)])
@pytest.mark.parametrize("fleet", [Fleet(), STARTING])
def test_a_router_that_lost_its_last_decode_worker_is_ready_while_it_holds_requests(
    fleet: Fleet, deserted_for_s: float, ready: bool
) -> None:
    told = readiness(
        fleet,
        draining=False,
        unlisted=(),
        scale_from_zero=False,
        deserted_for_s=deserted_for_s,
        held_s=30.0,
    )
    assert told.ready is ready
