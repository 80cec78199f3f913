"""Passes: a few at once, again after a failure and later each time, and none stops the others."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable

import pytest
from baton_operator.controller import PASS_TIMEOUT_S, Controller
from baton_operator.kube import ApiFailure
from baton_operator.metrics import OperatorMetrics
from baton_operator.pace import BACKOFF_FIRST_S, BACKOFF_MAX_S, JITTER, backoff_s, spread_s
from baton_operator.workqueue import Key, WorkQueue
from prometheus_client import CollectorRegistry

A: Key = ("models", "a")
B: Key = ("models", "b")
MIDDLE = 0.5  # of luck: no jitter


class Passes:
    """Notes when each key was reconciled, and does what it was told."""

    def __init__(self) -> None:
        self.times: dict[Key, list[float]] = {}
        self.act: dict[Key, Callable[[], float | None]] = {}
        self.take_s = 0.0
        self.at_once = 0
        self.at_once_max = 0

    async def __call__(self, key: Key) -> float | None:
        self.times.setdefault(key, []).append(asyncio.get_running_loop().time())
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            await asyncio.sleep(self.take_s)
            return self.act.get(key, lambda: None)()
        finally:
            self.at_once -= 1


@contextlib.asynccontextmanager
async def running(passes: Passes, *, workers: int = 2) -> AsyncIterator[WorkQueue]:
    metrics = OperatorMetrics(CollectorRegistry())
    queue = WorkQueue(metrics)
    controller = Controller(queue, passes, metrics, lambda: MIDDLE, workers=workers)
    task = asyncio.create_task(controller.run())
    yield queue
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    queue.close()


def away() -> float | None:
    raise ApiFailure(0, "Unreachable", "the API server does not answer")


def broken() -> float | None:
    raise RuntimeError("a bug")


@pytest.mark.looptime
async def test_a_pass_says_when_the_next_one_is_due() -> None:
    passes = Passes()
    passes.act[A] = lambda: 5.0
    async with running(passes) as queue:
        queue.add(A)
        await asyncio.sleep(11.0)
    assert [round(one - passes.times[A][0]) for one in passes.times[A]] == [0, 5, 10]


@pytest.mark.looptime
@pytest.mark.parametrize("failure", [away, broken])
async def test_a_failed_pass_is_tried_again_later_each_time(
    failure: Callable[[], float | None],
) -> None:
    passes = Passes()
    passes.act[A] = failure
    async with running(passes) as queue:
        queue.add(A)
        await asyncio.sleep(8.0)
        times = passes.times[A]
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert gaps == pytest.approx([0.5, 1.0, 2.0, 4.0])
        passes.act[A] = lambda: 1.0  # the API server is back
        await asyncio.sleep(60.0)
        passes.act[A] = failure
        seen = len(times)
        await asyncio.sleep(2.0)
        later = times[seen:]
        assert later[1] - later[0] == pytest.approx(BACKOFF_FIRST_S)  # and forgotten


@pytest.mark.looptime
async def test_one_service_that_fails_or_hangs_does_not_keep_others_waiting() -> None:
    passes = Passes()
    passes.act = {A: broken, B: lambda: 1.0}
    async with running(passes, workers=1) as queue:
        queue.add(A)
        queue.add(B)
        await asyncio.sleep(5.5)
    assert len(passes.times[B]) == 6


@pytest.mark.looptime
async def test_no_more_passes_at_once_than_there_are_workers() -> None:
    passes = Passes()
    passes.take_s = 1.0
    async with running(passes, workers=3) as queue:
        for number in range(10):
            queue.add(("models", str(number)))
        await asyncio.sleep(5.0)
    assert len(passes.times) == 10
    assert passes.at_once_max == 3


@pytest.mark.looptime
async def test_a_pass_that_never_ends_is_ended() -> None:
    passes = Passes()
    passes.take_s = 10 * PASS_TIMEOUT_S
    async with running(passes, workers=1) as queue:
        queue.add(A)
        queue.add(B)
        await asyncio.sleep(PASS_TIMEOUT_S + 1.0)
    assert B in passes.times


@pytest.mark.parametrize("luck", [0.0, 0.5, 1.0])
def test_backoff_grows_to_a_limit_with_jitter(luck: float) -> None:
    waits = [backoff_s(failures, luck) for failures in (1, 2, 3, 8, 1_000_000)]
    factor = 1 + JITTER * (2 * luck - 1)
    assert waits == pytest.approx([one * factor for one in (0.5, 1.0, 2.0, 60.0, BACKOFF_MAX_S)])


def test_what_recurs_is_spread() -> None:
    assert spread_s(600.0, 0.0) == pytest.approx(600.0 * (1 - JITTER))
    assert spread_s(600.0, 1.0) == pytest.approx(600.0 * (1 + JITTER))
