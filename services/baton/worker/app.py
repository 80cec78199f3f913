"""The composition of a worker process, the same for both roles: parts, server, life, exit code.

The role brings its service. Knows what is wired to what; every piece's own business is elsewhere.
"""

import asyncio
import secrets
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial

import grpc.aio
from prometheus_client import CollectorRegistry, start_http_server

from baton.common.clock import SystemClock
from baton.common.config import read_settings
from baton.common.errors import BatonError, ConfigError
from baton.common.lifecycle import EXIT_FAILED, Shutdown
from baton.common.logs import configure_logs, get_log
from baton.common.metrics import Metrics
from baton.engine.costmodel import CostModel
from baton.rpc.server import new_server
from baton.rpc.v1.worker_pb2_grpc import add_WorkerServicer_to_server
from baton.worker.assembly import ModelPlan, build_engine, plan_model
from baton.worker.costs import CostMetrics
from baton.worker.drain import drain
from baton.worker.loop import EngineLoop, QueueLimits
from baton.worker.observe import EngineMetrics
from baton.worker.parts import RoleService, WorkerParts
from baton.worker.settings import WorkerSettings
from baton.worker.state import WorkerEvent, WorkerLife
from baton.worker.turns import Turn
from baton.worker.watch import Role, WatchHub, WorkerCard
from baton.worker.watch_service import WatchService

SERVER_STOP_LIMIT_S = 2.0
"""Streams flush their last frames within this; what is left then is cut."""


def main(
    role: Role,
    new_service: Callable[[WorkerParts], RoleService],
    argv: Sequence[str],
    environ: Mapping[str, str],
) -> int:
    """Run a worker until it is asked to stop. Returns the exit code."""
    configure_logs(role.value)
    try:
        settings = read_settings(WorkerSettings, argv, environ, program=f"baton.{role.value}")
        return asyncio.run(_serve(settings, role, new_service))
    except BatonError as error:
        print(f"baton.{role.value}: {error.message}", file=sys.stderr)
        return EXIT_FAILED


async def _serve(
    settings: WorkerSettings, role: Role, new_service: Callable[[WorkerParts], RoleService]
) -> int:
    shutdown = Shutdown()
    shutdown.install()
    plan = await asyncio.to_thread(plan_model, settings)
    worker = _Worker(settings, role, plan, new_service)
    return await worker.run(shutdown)


class _Worker:
    """Everything of one process, from the known model to the exit code."""

    def __init__(
        self,
        settings: WorkerSettings,
        role: Role,
        plan: ModelPlan,
        new_service: Callable[[WorkerParts], RoleService],
    ) -> None:
        self._settings = settings
        self._log = get_log(__name__)
        registry = CollectorRegistry()
        metrics = Metrics(registry, model_name=settings.model_name)
        self._registry = registry
        self._life = WorkerLife()
        card = WorkerCard(
            role, settings.model_name, plan.layout, plan.block_count, plan.context_length_max
        )
        costs = CostModel()
        self._hub = WatchHub(card, self._life, costs, incarnation=secrets.randbits(64))
        self._cost_metrics = CostMetrics(costs, metrics)
        self._engine_metrics = EngineMetrics(metrics, block_count=plan.block_count)
        self._failure: Exception | None = None
        self._failed = asyncio.Event()
        self._engine = EngineLoop(
            partial(build_engine, settings, plan, costs),
            limits=QueueLimits(settings.queue_requests_max, settings.queue_tokens_max),
            observe=self._observe,
            broken=self._broken,
        )
        parts = WorkerParts(
            self._engine,
            self._life,
            plan.layout,
            plan.config.vocab_size,
            SystemClock(),
            metrics,
            costs,
        )
        self._service = new_service(parts)
        self._fingerprint = plan.layout.fingerprint()

    async def run(self, shutdown: Shutdown) -> int:
        server = await self._listen()
        try:
            await self._engine.start()
            self._life.advance(WorkerEvent.LOADED)
            self._hub.state_changed()
            shutdown.enter_service()
            self._log.info("ready", port=self._settings.port, layout=self._fingerprint)
            await _first_of(shutdown.wait(), self._failed.wait())
            if self._failure is None:
                await drain(
                    self._life,
                    self._hub,
                    self._engine,
                    timeout_s=self._settings.drain_timeout_s,
                )
        finally:
            await self._service.aclose()
            await server.stop(SERVER_STOP_LIMIT_S)
            await self._engine.stop()
        return 0 if self._failure is None else EXIT_FAILED

    async def _listen(self) -> grpc.aio.Server:
        """Serve Watch at once, so that routers see the worker start. Raises ConfigError."""
        settings = self._settings
        server = new_server()
        add_WorkerServicer_to_server(WatchService(self._hub), server)
        self._service.register(server)
        address = f"{settings.host}:{settings.port}"
        try:
            server.add_insecure_port(address)
            if settings.metrics_port:
                start_http_server(settings.metrics_port, settings.host, self._registry)
        except (RuntimeError, OSError) as error:
            raise ConfigError([f"cannot listen on {address}: {error}"]) from error
        await server.start()
        return server

    def _observe(self, turn: Turn) -> None:
        self._cost_metrics.observe(turn)
        self._hub.observe(turn)
        self._engine_metrics.observe(turn)

    def _broken(self, error: Exception) -> None:
        self._log.error("the engine failed; this worker ends", error=error)
        self._failure = error
        self._failed.set()


async def _first_of(*waits: Coroutine[object, None, object]) -> None:
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
