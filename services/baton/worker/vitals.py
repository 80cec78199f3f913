"""What a worker can say of itself from its first moment, long before it has a model: its state, its
metrics, whether it lives.

Owns the status port and the watchdog, which need neither event loop nor engine to answer. Knows
what is alive; what the worker does is the application's.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry

from baton.common.metrics import Metrics
from baton.engine.costmodel import CostModel
from baton.worker.progress import Heartbeat, StepProgress
from baton.worker.settings import WorkerSettings
from baton.worker.state import WorkerLife, WorkerState
from baton.worker.status_port import Answer, StatusPort, text
from baton.worker.watchdog import LOOK_INTERVAL_S, Limits, Verdict
from baton.worker.watchdog_thread import WatchdogThread

BEAT_INTERVAL_S = LOOK_INTERVAL_S / 2
"""Between two looks of the watchdog a loop that turns has beaten."""


class Vitals:
    """Lives on one event loop, answers from other threads. `on_alarm` runs on the loop, once.

    Raises ConfigError when the status port cannot be had.
    """

    def __init__(self, settings: WorkerSettings, limits: Limits) -> None:
        self.life = WorkerLife()
        self.costs = CostModel()
        self.progress = StepProgress()
        self.metrics = Metrics(CollectorRegistry(), model_name=settings.model_name)
        self.on_alarm: Callable[[Verdict], object] = lambda verdict: None
        self._loop = asyncio.get_running_loop()
        self._heartbeat = Heartbeat()
        self._watchdog = WatchdogThread(
            self.progress, self._heartbeat, self.costs, self._alarm, limits
        )
        self._port: StatusPort | None = None
        if settings.metrics_port:
            routes = {"/metrics": self.scrape, "/live": self.live, "/ready": self.ready}
            self._port = StatusPort(settings.host, settings.metrics_port, routes)
        self._beating = asyncio.create_task(self._beat())
        self._watchdog.start()

    def scrape(self) -> Answer:
        return Answer(HTTPStatus.OK, self.metrics.render(), CONTENT_TYPE_LATEST)

    def ready(self) -> Answer:
        """200 only while the worker takes work."""
        state = self.life.state
        fine = state is WorkerState.READY and self._watchdog.verdict is Verdict.FINE
        return text(HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE, state.value)

    def live(self) -> Answer:
        """503 once nothing but a restart helps."""
        if self.life.state is WorkerState.FAILED:
            return text(HTTPStatus.SERVICE_UNAVAILABLE, "the engine failed")
        verdict = self._watchdog.verdict
        fine = verdict is Verdict.FINE
        return text(HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE, verdict.value)

    def close(self) -> None:
        self._beating.cancel()
        self._watchdog.stop()
        if self._port is not None:
            self._port.close()

    def _alarm(self, verdict: Verdict) -> None:
        """On the watchdog's thread. A loop that does not turn does not hear it, and need not."""
        self._loop.call_soon_threadsafe(lambda: self.on_alarm(verdict))

    async def _beat(self) -> None:
        while True:
            self._heartbeat.beat()
            await asyncio.sleep(BEAT_INTERVAL_S)
