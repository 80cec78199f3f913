"""Turns among tenants, on the real router: one tenant's flood is not another's wait, and no turn is
lost, whatever ends the request that had it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from baton.router.tenants.turns import PIECES_PER_WORKER
from baton.rpc.v1 import decode_pb2
from support.crowd import crowd, order
from support.fake_decode import READY, STARTING, FakeDecode, Script
from support.router_process import RunningRouter, running_router
from support.tenant_files import entry, write_register


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return write_register(tmp_path / "keys.json", entry("red"), entry("blue"))


@pytest.fixture
async def worker() -> AsyncIterator[FakeDecode]:
    async with FakeDecode() as worker:
        yield worker


@pytest.fixture
async def router(worker: FakeDecode, keys: Path) -> AsyncIterator[RunningRouter]:
    async with running_router([worker], api_keys_file=keys) as router:
        yield router


async def test_a_flood_of_one_tenant_costs_another_no_more_than_its_turn(
    router: RunningRouter, worker: FakeDecode
) -> None:
    worker.script.hold_after = 0
    async with crowd(router) as people:
        people.asks("red", 20)
        await people.until_waiting(20 - PIECES_PER_WORKER)
        people.asks("blue", 2)
        await people.until_waiting(22 - PIECES_PER_WORKER)
        await worker.until(lambda w: order(w) == "r" * PIECES_PER_WORKER)
        worker.script.released.set()
        assert await people.statuses() == [200] * 22
    after = order(worker)[PIECES_PER_WORKER:]
    assert after.count("b") == 2
    assert "b" in after[:2]
    assert after.rindex("b") <= 4


async def test_clients_that_go_away_leave_the_line_and_free_their_turns(
    router: RunningRouter, worker: FakeDecode
) -> None:
    worker.script.hold_after = 0
    async with crowd(router) as people:
        out = people.asks("red", PIECES_PER_WORKER)
        await worker.until(lambda w: len(w.submits) == PIECES_PER_WORKER)
        [waiting] = people.asks("red")
        people.asks("blue", 2)
        await people.until_waiting(3)
        waiting.cancel()
        await people.until_waiting(2)
        out[0].cancel()
        out[1].cancel()
        await worker.until(lambda w: order(w) == "r" * PIECES_PER_WORKER + "bb")
        worker.script.released.set()
    await until_served(router)


async def test_a_request_in_line_ends_at_its_deadline(worker: FakeDecode, keys: Path) -> None:
    worker.script.silent = True
    async with (
        running_router([worker], api_keys_file=keys, request_timeout_s=0.3) as router,
        crowd(router) as people,
    ):
        asked = people.asks("red", PIECES_PER_WORKER + 3)
        assert await people.statuses() == [504] * (PIECES_PER_WORKER + 3)
        assert {answer.result().json()["error"]["code"] for answer in asked} == {
            "deadline_exceeded"
        }
        await people.until_waiting(0)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(Script(fail_after=0), id="a-failed-step"),
        pytest.param(Script(break_after=0), id="a-broken-stream"),
        pytest.param(
            Script(refuse=decode_pb2.RequestError(code="overloaded", message="", retryable=True)),
            id="refused",
        ),
    ],
)
async def test_what_fails_frees_its_turn(script: Script, keys: Path) -> None:
    async with (
        FakeDecode(script) as worker,
        running_router([worker], api_keys_file=keys) as router,
        crowd(router) as people,
    ):
        people.asks("red", 3 * PIECES_PER_WORKER)
        assert all(status >= 400 for status in await people.statuses())
        worker.script = Script()
        await router.until_ready()
        await until_served(router)


async def test_a_request_that_lost_its_worker_does_not_wait_again(keys: Path) -> None:
    each = PIECES_PER_WORKER
    async with (
        FakeDecode(Script(hold_after=0)) as dying,
        FakeDecode(Script(hold_after=0)) as other,
        running_router([dying, other], api_keys_file=keys) as router,
        crowd(router) as people,
    ):
        people.asks("red", 3 * each)
        await dying.until(lambda w: len(w.submits) == each)
        await other.until(lambda w: len(w.submits) == each)
        await people.until_waiting(each)
        await dying.kill()
        await other.until(lambda w: len(w.submits) == 2 * each)
        other.script.released.set()
        assert await people.statuses() == [200] * 3 * each
        await until_served(router)


async def test_without_a_worker_all_are_waiting_demand_and_none_waits_longer_than_held(
    worker: FakeDecode, keys: Path
) -> None:
    count = 5 * PIECES_PER_WORKER
    await worker.become(STARTING)
    async with (
        running_router([worker], wait=False, api_keys_file=keys, ready_wait_s=1.0) as router,
        crowd(router) as people,
    ):
        people.asks("red", count)
        await people.until_waiting(count)
        async with asyncio.timeout(2.5):  # one after another they would take five seconds
            assert await people.statuses() == [503] * count


async def test_who_waited_for_a_worker_goes_in_turn_when_one_comes(
    worker: FakeDecode, keys: Path
) -> None:
    await worker.become(STARTING)
    async with (
        running_router([worker], wait=False, api_keys_file=keys, scale_from_zero=True) as router,
        crowd(router) as people,
    ):
        people.asks("red", 10)
        await people.until_waiting(10)
        people.asks("blue")
        await people.until_waiting(11)
        await worker.become(READY)
        assert await people.statuses() == [200] * 11
    assert order(worker).index("b") <= PIECES_PER_WORKER + 1


async def until_served(router: RunningRouter) -> None:
    """More requests than could be out, at once: no turn has been lost."""
    async with crowd(router) as people, asyncio.timeout(5):
        people.asks("blue", 3 * PIECES_PER_WORKER)
        assert await people.statuses() == [200] * 3 * PIECES_PER_WORKER
        await people.until_waiting(0)
