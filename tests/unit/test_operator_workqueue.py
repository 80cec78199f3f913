"""The work queue: a key waits once, has one pass at a time, and one timer."""

import asyncio

import pytest
from baton_operator.metrics import OperatorMetrics
from baton_operator.workqueue import Key, WorkQueue
from prometheus_client import CollectorRegistry

A: Key = ("models", "a")
B: Key = ("models", "b")


def queue() -> WorkQueue:
    return WorkQueue(OperatorMetrics(CollectorRegistry()))


async def next_of(work: WorkQueue) -> Key | None:
    """The next key; None: nothing is due."""
    try:
        return await asyncio.wait_for(work.get(), 0.001)
    except TimeoutError:
        return None


@pytest.mark.looptime
async def test_a_key_that_is_asked_for_twice_waits_once() -> None:
    work = queue()
    for key in (A, B, A):
        work.add(key)
    assert [await next_of(work) for _ in range(3)] == [A, B, None]


@pytest.mark.looptime
async def test_a_key_that_is_asked_for_during_its_pass_has_another_afterwards() -> None:
    work = queue()
    work.add(A)
    assert await next_of(work) == A
    work.add(A)
    work.add(A)
    assert await next_of(work) is None  # never two passes of one service at once
    work.done(A)
    assert [await next_of(work), await next_of(work)] == [A, None]


@pytest.mark.looptime
async def test_a_timer_makes_a_key_due() -> None:
    work, loop = queue(), asyncio.get_running_loop()
    began_s = loop.time()
    work.add_after(A, 5.0)
    assert await work.get() == A
    assert loop.time() - began_s == pytest.approx(5.0)


@pytest.mark.looptime
@pytest.mark.parametrize(("first_s", "second_s"), [(5.0, 9.0), (9.0, 5.0)])
async def test_of_two_timers_the_earlier_counts(first_s: float, second_s: float) -> None:
    work, loop = queue(), asyncio.get_running_loop()
    began_s = loop.time()
    work.add_after(A, first_s)
    work.add_after(A, second_s)
    assert await work.get() == A
    assert loop.time() - began_s == pytest.approx(5.0)
    work.done(A)
    await asyncio.sleep(20.0)
    assert await next_of(work) is None


@pytest.mark.looptime
async def test_a_pass_before_the_timer_takes_its_place() -> None:
    work = queue()
    work.add_after(A, 5.0)
    work.add(A)
    assert await next_of(work) == A
    work.done(A)
    await asyncio.sleep(10.0)
    assert await next_of(work) is None


@pytest.mark.looptime
async def test_a_closed_queue_rings_no_more() -> None:
    work = queue()
    work.add_after(A, 5.0)
    work.close()
    await asyncio.sleep(10.0)
    assert await next_of(work) is None


@pytest.mark.looptime
async def test_depth_and_waiting_time_are_shown() -> None:
    metrics = OperatorMetrics(CollectorRegistry())
    work = WorkQueue(metrics)
    work.add(A)
    work.add(B)
    assert b'workqueue_depth{name="modelservice"} 2.0' in metrics.render()
    await asyncio.sleep(2.0)
    await work.get()
    page = metrics.render()
    assert b'workqueue_depth{name="modelservice"} 1.0' in page
    assert b'workqueue_queue_duration_seconds_sum{name="modelservice"} 2.0' in page
