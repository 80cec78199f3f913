"""The ModelServices that need a pass: each once, one pass at a time, later ones on a timer.

A key that is asked for while it waits waits once; one that is asked for during its pass has another
one after it. A key has at most one timer, the earliest. Knows no ModelService; lives on one loop.
"""

import asyncio
from collections import deque
from typing import TypeAlias

from baton_operator.metrics import CONTROLLER, OperatorMetrics

Key: TypeAlias = tuple[str, str]
"""Namespace and name. There are as many as ModelServices, so nothing here grows beyond them."""


class WorkQueue:
    """Keys that are due, in the order in which they became so."""

    def __init__(self, metrics: OperatorMetrics) -> None:
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._due: deque[Key] = deque()
        self._due_since_s: dict[Key, float] = {}
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._arrived = asyncio.Event()
        self._show_depth()

    def add(self, key: Key) -> None:
        """`key` needs a pass, now."""
        self._metrics.count("workqueue_adds_total", name=CONTROLLER)
        self._cancel_timer(key)
        if key in self._working:
            self._again.add(key)
        elif key not in self._due_since_s:
            self._due.append(key)
            self._due_since_s[key] = self._loop.time()
            self._arrived.set()
            self._show_depth()

    def add_after(self, key: Key, delay_s: float) -> None:
        """`key` needs a pass in so long, or earlier where that has been asked for already."""
        at_s = self._loop.time() + delay_s
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= at_s:
            return
        self._cancel_timer(key)
        self._timers[key] = self._loop.call_at(at_s, self.add, key)

    async def get(self) -> Key:
        """The next key, once there is one; `done` must follow. Its pass decides on its timer."""
        while not self._due:
            self._arrived.clear()
            await self._arrived.wait()
        key = self._due.popleft()
        waited_s = self._loop.time() - self._due_since_s.pop(key)
        self._metrics.observe("workqueue_queue_duration_seconds", waited_s, name=CONTROLLER)
        self._cancel_timer(key)
        self._working.add(key)
        self._show_depth()
        return key

    def done(self, key: Key) -> None:
        """The pass of `key` is over."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def close(self) -> None:
        """No timer fires any more."""
        for key in list(self._timers):
            self._cancel_timer(key)

    def _cancel_timer(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _show_depth(self) -> None:
        self._metrics.gauge("workqueue_depth", len(self._due), name=CONTROLLER)
