"""The composition of a worker process, the same for both roles: parts, server, life, exit code.

The role brings its service. Knows what is wired to what; every piece's own business is elsewhere.
"""

import asyncio
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial

import grpc.aio
import uvloop

from baton.common.clock import SystemClock
from baton.common.config import read_settings
from baton.common.errors import BatonError, EngineFailure
from baton.common.lifecycle import EXIT_FAILED, Shutdown
from baton.common.logs import configure_logs, get_log
from baton.common.tracing import Tracing
from baton.common.tracing_choice import open_tracing
from baton.engine.costmodel import CostModel
from baton.rpc.certificate_expiry import show_expiry
from baton.rpc.server import listen, new_server
from baton.rpc.v1.worker_pb2_grpc import add_WorkerServicer_to_server
from baton.worker.constraints import Constraints
from baton.worker.costs import CostMetrics
from baton.worker.drain import drain
from baton.worker.loop import EngineLoop, QueueLimits
from baton.worker.memory import settle
from baton.worker.observe import EngineMetrics
from baton.worker.parts import RoleService, WorkerParts
from baton.worker.plan import ModelPlan, Models
from baton.worker.progress import StepProgress
from baton.worker.settings import WorkerSettings
from baton.worker.spans import RequestSpans
from baton.worker.state import WorkerEvent
from baton.worker.timing import RequestTimes
from baton.worker.turns import EngineApi, Turn
from baton.worker.vitals import Vitals
from baton.worker.watch import Role, WatchHub, WorkerCard
from baton.worker.watch_service import WatchService
from baton.worker.watchdog import Limits, Verdict

SERVER_STOP_LIMIT_S = 2.0
"""Streams flush their last frames within this; what is left then is cut."""


class ModelsOnDemand:
    """Implements Models. What computes is behind `assembly`; torch, where it does, takes seconds to
    import: only when a model is asked for, so that probes are answered and signals heard before.
    """

    def plan(self, settings: WorkerSettings) -> ModelPlan:
        from baton.worker.assembly import plan_model

        get_log(__name__).info("libraries loaded")
        return plan_model(settings)

    def build(
        self, settings: WorkerSettings, plan: ModelPlan, costs: CostModel, progress: StepProgress
    ) -> EngineApi:
        from baton.worker.assembly import build_engine

        return build_engine(settings, plan, costs, progress)


def main(
    role: Role,
    new_service: Callable[[WorkerParts], RoleService],
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    models: Models | None = None,
    limits: Limits | None = None,
) -> int:
    """Run a worker until it is asked to stop. Returns the exit code."""
    configure_logs(role.value)
    try:
        settings = read_settings(WorkerSettings, argv, environ, program=f"baton.{role.value}")
        models, limits = models or ModelsOnDemand(), limits or Limits()
        with closing(open_tracing(environ, service_name=f"baton-{role.value}")) as tracing:
            return uvloop.run(_serve(settings, role, new_service, models, limits, tracing))
    except BatonError as error:
        print(f"baton.{role.value}: {error.message}", file=sys.stderr)
        return EXIT_FAILED


async def _serve(
    settings: WorkerSettings,
    role: Role,
    new_service: Callable[[WorkerParts], RoleService],
    models: Models,
    limits: Limits,
    tracing: Tracing,
) -> int:
    shutdown = Shutdown()
    shutdown.install()
    get_log(__name__).info("starting", metrics_port=settings.metrics_port)
    vitals = Vitals(settings, limits)
    try:
        plan = await asyncio.to_thread(models.plan, settings)
        get_log(__name__).info("model planned", layout=plan.layout.fingerprint())
        build = partial(_build, models, settings, plan, vitals)
        worker = _Worker(settings, role, plan, build, new_service, vitals, RequestSpans(tracing))
        return await worker.run(shutdown)
    finally:
        vitals.close()


def _build(models: Models, settings: WorkerSettings, plan: ModelPlan, vitals: Vitals) -> EngineApi:
    """On the engine's thread."""
    return models.build(settings, plan, vitals.costs, vitals.progress)


class _Worker:
    """Everything of one process, from the known model to the exit code."""

    def __init__(
        self,
        settings: WorkerSettings,
        role: Role,
        plan: ModelPlan,
        build: Callable[[], EngineApi],
        new_service: Callable[[WorkerParts], RoleService],
        vitals: Vitals,
        spans: RequestSpans,
        *,
        exit_at_once: Callable[[int], object] = os._exit,
    ) -> None:
        self._settings = settings
        self._exit_at_once = exit_at_once
        self._log = get_log(__name__)
        self._vitals, self._life = vitals, vitals.life
        metrics, costs = vitals.metrics, vitals.costs
        show_expiry(metrics, settings.tls)
        card = WorkerCard(
            role, settings.model_name, plan.layout, plan.block_count, plan.context_length_max
        )
        self._hub = WatchHub(card, self._life, costs, incarnation=secrets.randbits(64))
        self._cost_metrics = CostMetrics(costs, metrics)
        self._engine_metrics = EngineMetrics(metrics, plan.layout, block_count=plan.block_count)
        self._request_times = RequestTimes(metrics)
        self._spans = spans
        self._failure: Exception | None = None
        self._ending = asyncio.Event()
        self._engine = EngineLoop(
            build,
            limits=QueueLimits(settings.queue_requests_max, settings.queue_tokens_max),
            constrain=Constraints(plan.model, vocab_size=plan.config.vocab_size).of,
            observe=self._observe,
            broken=self._broken,
            progress=vitals.progress,
        )
        vitals.on_alarm = self._stuck
        parts = WorkerParts(
            self._engine,
            self._life,
            plan.layout,
            plan.config.vocab_size,
            SystemClock(),
            metrics,
            costs,
            settings.tls,
            spans,
        )
        self._service = new_service(parts)
        self._fingerprint = plan.layout.fingerprint()

    async def run(self, shutdown: Shutdown) -> int:
        server, touching = await self._listen(), None
        try:
            await self._engine.start()
            await asyncio.to_thread(settle)
            self._life.advance(WorkerEvent.LOADED)
            self._hub.state_changed()
            shutdown.enter_service()
            self._log.info("ready", port=self._settings.port, layout=self._fingerprint)
            touching = asyncio.create_task(self._touch_while_idle())
            await self._serve_until(shutdown)
        finally:
            if touching is not None:
                touching.cancel()
            await self._service.aclose()
            self._hub.end()
            await server.stop(SERVER_STOP_LIMIT_S)
            ended = await self._engine.stop()
        code = 0 if self._failure is None else EXIT_FAILED
        if not ended:  # the interpreter would wait for the thread, or fall over it
            self._log.warning("the engine's thread does not end; left behind", exit_code=code)
            self._exit_at_once(code)
        return code

    async def _touch_while_idle(self) -> None:
        """What a fresh worker has not written yet the system has to find and clear first, in the
        middle of a step: a tenth of the time of its first thousands of tokens."""
        more = True
        while more:
            await self._engine.wait_idle()
            more = await asyncio.to_thread(self._engine.kv.touch)

    async def _serve_until(self, shutdown: Shutdown) -> None:
        """A stop was asked for, and what ran has ended or moved; or the engine has failed."""
        asked = asyncio.create_task(shutdown.wait())
        asked.add_done_callback(lambda _: self._ending.set())
        await self._ending.wait()
        asked.cancel()
        if self._failure is None:
            self._vitals.metrics.gauge("baton_draining", 1)
            await drain(
                self._life, self._hub, self._engine, timeout_s=self._settings.drain_timeout_s
            )

    async def _listen(self) -> grpc.aio.Server:
        """Serve Watch at once, so that routers see the worker start. Raises ConfigError."""
        settings = self._settings
        server = new_server(settings.tls)
        add_WorkerServicer_to_server(WatchService(self._hub), server)
        self._service.register(server)
        listen(server, f"{settings.host}:{settings.port}", settings.tls)
        await server.start()
        return server

    def _observe(self, turn: Turn) -> None:
        self._cost_metrics.observe(turn)
        self._hub.observe(turn)
        self._engine_metrics.observe(turn)
        self._request_times.observe(turn)
        self._spans.observe(turn)

    def _stuck(self, verdict: Verdict) -> None:
        self._engine.fail(EngineFailure(verdict.value))

    def _broken(self, error: Exception) -> None:
        self._log.error("the engine failed; this worker ends", error=error)
        self._failure = error
        self._life.advance(WorkerEvent.FAIL)
        self._hub.state_changed()
        self._ending.set()
