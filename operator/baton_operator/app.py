"""The operator, wired: candidates for leadership, and what the leader does. No decision is here."""

import asyncio
import contextlib
import random
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from baton.common.clock import Clock, SystemClock
from baton.common.config import read_settings
from baton.common.errors import BatonError, ConfigError
from baton.common.lifecycle import EXIT_FAILED, Shutdown
from baton.common.logs import configure_logs, get_log
from prometheus_client import CollectorRegistry

from baton_operator.collect import SignalCollector, new_client
from baton_operator.controller import Controller
from baton_operator.election import Election
from baton_operator.health import HealthServer
from baton_operator.kube import ApiServer, connect
from baton_operator.metrics import OperatorMetrics
from baton_operator.pods import ReleaseImages
from baton_operator.reconcile import Reconciler
from baton_operator.reporting import Reporter
from baton_operator.settings import OperatorSettings
from baton_operator.watching import ClusterWatch
from baton_operator.workqueue import Key, WorkQueue

SETTLE_S = 0.2
"""From an event to the pass it asks for: a change comes as a handful of events."""

STOP_TIMEOUT_S = 10.0
"""From SIGTERM to the exit at the latest: no pass has to be finished."""

_log = get_log(__name__)


class Leader:
    """What the leading operator does: watch, and reconcile what it hears of."""

    def __init__(
        self,
        kube: ApiServer,
        settings: OperatorSettings,
        metrics: OperatorMetrics,
        clock: Clock,
        luck: Callable[[], float],
        instance: str,
    ) -> None:
        self._kube = kube
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._luck = luck
        self._instance = instance

    async def work(self) -> None:
        """Until cancelled, from nothing: what a former leader knew may be wrong by now."""
        settings = self._settings
        queue = WorkQueue(self._metrics)
        async with new_client() as client:
            reconciler = Reconciler(
                self._kube,
                SignalCollector(client, self._clock),
                Reporter(self._kube, self._metrics, self._clock, self._instance),
                self._metrics,
                ReleaseImages(settings.router_image, settings.worker_image),
                self._clock,
                self._luck,
            )
            controller = Controller(
                queue, reconciler, self._metrics, self._luck, workers=settings.workers
            )

            def notice(key: Key) -> None:
                reconciler.notice(key)
                queue.add_after(key, SETTLE_S)

            watch = ClusterWatch(self._kube, notice, self._luck, settings.namespaces)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(controller.run())
                    group.create_task(watch.run())
            finally:
                queue.close()


async def operate(
    settings: OperatorSettings, shutdown: Shutdown, *, instance: str, lease_namespace: str
) -> None:
    """Run until a stop is requested; `instance` is the name of this operator among others."""
    clock, luck = SystemClock(), random.Random()
    metrics = OperatorMetrics(CollectorRegistry())
    async with _connected(luck, metrics) as kube:
        election = Election(
            kube, clock, metrics, namespace=lease_namespace, name=settings.lease_name, me=instance
        )
        leader = Leader(kube, settings, metrics, clock, luck.random, instance)
        health = HealthServer(metrics, lambda: election.heard)
        await health.start(settings.metrics_host, settings.metrics_port)
        try:
            await _until_stopped(election, leader, shutdown)
        finally:
            await election.release()
            await health.aclose()


async def _until_stopped(election: Election, leader: Leader, shutdown: Shutdown) -> None:
    shutdown.enter_service()
    leading = asyncio.create_task(election.lead(leader.work))
    stopping = asyncio.create_task(shutdown.wait())
    try:
        await asyncio.wait((leading, stopping), return_when=asyncio.FIRST_COMPLETED)
        if leading.done():
            leading.result()
        _log.info("stopping")
    finally:
        for task in (leading, stopping):
            task.cancel()
        await asyncio.wait((leading, stopping), timeout=STOP_TIMEOUT_S)


@contextlib.asynccontextmanager
async def _connected(luck: random.Random, metrics: OperatorMetrics) -> AsyncIterator[ApiServer]:
    def count(method: str, status: int) -> None:
        metrics.count("rest_client_requests_total", code=str(status), method=method)

    kube = await connect(jitter=luck, count=count)
    try:
        yield kube
    finally:
        await kube.aclose()


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the operator until it is asked to stop. Returns the exit code."""
    try:
        settings = read_settings(OperatorSettings, argv, environ, program="baton_operator")
        configure_logs("operator", level=settings.log_level.value)
        asyncio.run(_serve(settings, environ))
    except BatonError as error:
        print(f"baton_operator: {error.message}", file=sys.stderr)
        return EXIT_FAILED
    return 0


async def _serve(settings: OperatorSettings, environ: Mapping[str, str]) -> None:
    namespace = settings.lease_namespace or environ.get("POD_NAMESPACE")
    if not namespace:
        raise ConfigError(["--lease-namespace (or POD_NAMESPACE) is required"])
    shutdown = Shutdown()
    shutdown.install()
    instance = environ.get("POD_NAME") or socket.gethostname()
    await operate(settings, shutdown, instance=instance, lease_namespace=namespace)
