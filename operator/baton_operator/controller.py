"""Takes ModelServices from the queue and has each reconciled, a few at once; again after a failure,
later and later. Knows no steps of a pass."""

import asyncio
from collections.abc import Awaitable, Callable

from baton.common.logs import get_log

from baton_operator.kube import ApiFailure
from baton_operator.metrics import CONTROLLER, OperatorMetrics
from baton_operator.pace import backoff_s
from baton_operator.workqueue import Key, WorkQueue

PASS_TIMEOUT_S = 120.0
"""The first pass of a service makes some thirty calls; an API server that needs longer for them is
left in peace for a while."""

_log = get_log(__name__)

Pass = Callable[[Key], Awaitable[float | None]]


class Controller:
    """Workers over a queue."""

    def __init__(
        self,
        queue: WorkQueue,
        reconcile: Pass,
        metrics: OperatorMetrics,
        luck: Callable[[], float],
        *,
        workers: int,
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._metrics = metrics
        self._luck = luck
        self._workers = workers
        self._failures: dict[Key, int] = {}  # in a row; of keys that are being retried
        self._active = 0
        metrics.gauge(
            "controller_runtime_max_concurrent_reconciles", workers, controller=CONTROLLER
        )

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            self._show_active(1)
            try:
                delay_s = await self._one_pass(key)
            finally:
                self._show_active(-1)
                self._queue.done(key)
            if delay_s is not None:
                self._queue.add_after(key, delay_s)

    async def _one_pass(self, key: Key) -> float | None:
        """The delay until the next one."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            async with asyncio.timeout(PASS_TIMEOUT_S):
                delay_s = await self._reconcile(key)
        except Exception as error:  # one service must not stop the others, whatever is wrong
            delay_s = self._failed(key, error)
        else:
            self._failures.pop(key, None)
            result = "success" if delay_s is None else "requeue_after"
            self._ended(result)
        took_s = loop.time() - began_s
        self._metrics.observe(
            "controller_runtime_reconcile_time_seconds", took_s, controller=CONTROLLER
        )
        self._metrics.observe("workqueue_work_duration_seconds", took_s, name=CONTROLLER)
        return delay_s

    def _failed(self, key: Key, error: Exception) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay_s = backoff_s(failures, self._luck())
        self._ended("error")
        self._metrics.count("controller_runtime_reconcile_errors_total", controller=CONTROLLER)
        self._metrics.count("workqueue_retries_total", name=CONTROLLER)
        namespace, name = key
        told = {"namespace": namespace, "service": name, "failures": failures, "retry_s": delay_s}
        if isinstance(error, ApiFailure | TimeoutError):
            _log.warning("pass failed", reason=str(error) or "timed out", **told)
        else:
            _log.error("pass failed", error=error, **told)
        return delay_s

    def _ended(self, result: str) -> None:
        self._metrics.count(
            "controller_runtime_reconcile_total", controller=CONTROLLER, result=result
        )

    def _show_active(self, change: int) -> None:
        self._active += change
        self._metrics.gauge(
            "controller_runtime_active_workers", self._active, controller=CONTROLLER
        )
