"""The composition root of the router: everything is built and wired here, and only here."""

import random
import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException

from baton.common.clock import Clock
from baton.common.errors import BatonError
from baton.common.metrics import Metrics
from baton.common.signals import RouterSignals
from baton.common.tracing import NO_TRACING, Tracing
from baton.model.card import read_config
from baton.model.chat import ChatTemplate
from baton.model.fetch import resolve
from baton.model.progress import progress_for_stderr
from baton.model.tokenizer import load_tokenizer
from baton.router.admission import Admission, Limits
from baton.router.decide import Decision
from baton.router.decode_link import DecodeLinks
from baton.router.discovery import ServiceFeed, ServiceMember, SystemResolver, parse_members
from baton.router.dispatch import Dispatcher
from baton.router.fleet import Role
from baton.router.holding import Holding
from baton.router.kube_feed import KubernetesFeed, in_cluster
from baton.router.members import Members
from baton.router.middleware import DisconnectWatch, Observed, RequestIds, trace_of
from baton.router.openai.bodies import Bodies
from baton.router.openai.errors import error_response, http_error_code, http_error_response
from baton.router.openai.routes import api_routes, people_routes, token_routes
from baton.router.openai.service import Completions
from baton.router.operations import metrics_routes, operations_app, ready_routes
from baton.router.outlook import router_signals
from baton.router.picture import Picture
from baton.router.readiness import Readiness, readiness
from baton.router.settings import RouterSettings
from baton.router.stage import Stage
from baton.router.tally import Tally, Targets
from baton.router.telemetry import ROUTER_METRICS
from baton.router.tenants.entrance import Entrance
from baton.router.tenants.gate import FairGate, Gate, OpenGate
from baton.router.tenants.register_file import RegisterFile
from baton.router.text import TextModel, longest_token_bytes
from baton.router.traced import Traced
from baton.router.traffic import Traffic
from baton.router.watch import GrpcWatches
from baton.rpc.certificate_expiry import show_expiry
from baton.rpc.channels import Channels
from baton.rpc.identity_files import tls_files


@dataclass(frozen=True, slots=True)
class Router:
    """Two ASGI applications over one fleet. The lifespan of `api` listens to the workers."""

    api: FastAPI  # for clients; with probes and metrics where there is no port for them
    operations: FastAPI  # for the cluster


def load_text_model(settings: RouterSettings, clock: Clock) -> TextModel:
    """Fetch the model if need be and read its text side. Raises ModelFileError."""
    local = resolve(
        settings.model, cache_dir=settings.cache_dir.expanduser(), progress=progress_for_stderr()
    )
    config = read_config(local)
    tokenizer = load_tokenizer(local)
    return TextModel(
        name=settings.model_name,
        created_unix_s=int(clock.unix_s()),
        context_length=config.context_length,
        vocab_size=config.vocab_size,
        tokenizer=tokenizer,
        chat=ChatTemplate(
            tokenizer.chat_template, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token
        ),
        token_bytes_max=longest_token_bytes(tokenizer),
    )


def create_router(
    settings: RouterSettings,
    model: TextModel,
    *,
    clock: Clock,
    traffic: Traffic,
    services: ServiceFeed | None = None,
    tracing: Tracing = NO_TRACING,
) -> Router:
    """`services`: instead of the API server that a pod would ask. Raises ConfigError."""
    metrics = Metrics(CollectorRegistry(), model_name=model.name)
    metrics.declare(ROUTER_METRICS)
    tally = Tally(metrics, clock, Targets(settings.slo_ttft_s, settings.slo_itl_s))
    register = _register(settings, clock)
    fleet = _listen(settings, services, clock=clock, metrics=metrics, tally=tally)
    completions = _completions(settings, model, fleet, clock=clock, metrics=metrics, tally=tally)
    incarnation = secrets.randbits(63)

    def ready() -> Readiness:
        return readiness(
            fleet.picture.fleet,
            draining=traffic.draining,
            unlisted=fleet.members.unlisted,
            scale_from_zero=settings.scale_from_zero,
            deserted_for_s=fleet.stage.deserted_for_s(),
            held_s=settings.ready_wait_s,
        )

    def signals() -> RouterSignals:
        return router_signals(
            fleet.picture,
            tally.traffic(),
            model_name=model.name,
            incarnation=incarnation,
            now_s=clock.monotonic_s(),
        )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        fleet.members.start()
        yield
        await fleet.aclose()

    # No generated documentation: its pages load scripts from elsewhere.
    api = FastAPI(title="Baton", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    limit = settings.body_bytes_max
    bodies = Bodies(traffic, metrics, bytes_max=limit)
    api.include_router(api_routes(completions, bodies))
    api.include_router(token_routes(completions, bodies))
    api.include_router(people_routes(traffic))
    api.include_router(ready_routes(ready))
    if settings.metrics_port == 0:
        api.include_router(metrics_routes(metrics, traffic))
    _surround(api, metrics, traffic, register, tracing)
    return Router(api, operations_app(metrics, traffic, ready, signals))


@dataclass(frozen=True, slots=True)
class _Listening:
    """All that reaches for workers."""

    picture: Picture
    holding: Holding[Decision]
    gate: Gate
    links: DecodeLinks
    members: Members
    stage: Stage
    # Watches and request streams close their channels at different times.
    watch_channels: Channels
    link_channels: Channels

    async def aclose(self) -> None:
        await self.members.aclose()
        await self.links.aclose()
        await self.link_channels.aclose()
        await self.watch_channels.aclose()


def _listen(
    settings: RouterSettings,
    services: ServiceFeed | None,
    *,
    clock: Clock,
    metrics: Metrics,
    tally: Tally,
) -> _Listening:
    listed = [
        *((Role.DECODE, m) for m in parse_members("--decode-workers", settings.decode_workers)),
        *((Role.PREFILL, m) for m in parse_members("--prefill-workers", settings.prefill_workers)),
    ]
    jitter = random.Random()
    if services is None and any(isinstance(member, ServiceMember) for _, member in listed):
        services = KubernetesFeed(in_cluster(), jitter)
    tls = tls_files(settings.tls_dir, settings.tls_name)
    show_expiry(metrics, tls)
    watch_channels, link_channels = Channels(tls), Channels(tls)
    picture = Picture(cores_shared=settings.cores_shared)
    holding = Holding[Decision](tally.held)
    links = DecodeLinks(link_channels)
    open_to_all = settings.api_keys_file is None
    gate: Gate = OpenGate() if open_to_all else FairGate(picture, clock, tally)
    stage = Stage(picture, holding, gate, links, metrics, clock)
    members = Members(
        listed,
        model_name=settings.model_name,
        picture=picture,
        watches=GrpcWatches(watch_channels),
        resolver=SystemResolver(),
        services=services,
        clock=clock,
        jitter=jitter,
        dns_interval_s=settings.dns_interval_s,
        audience=stage,
    )
    return _Listening(picture, holding, gate, links, members, stage, watch_channels, link_channels)


def _completions(
    settings: RouterSettings,
    model: TextModel,
    fleet: _Listening,
    *,
    clock: Clock,
    metrics: Metrics,
    tally: Tally,
) -> Completions:
    from_zero = settings.scale_from_zero  # then only a request's own deadline ends its wait
    dispatcher = Dispatcher(
        picture=fleet.picture,
        holding=fleet.holding,
        links=fleet.links,
        clock=clock,
        metrics=metrics,
        tally=tally,
        gate=fleet.gate,
        eos_token_ids=model.tokenizer.eos_token_ids,
        ready_wait_s=settings.request_timeout_s if from_zero else settings.ready_wait_s,
    )
    return Completions(
        model=model,
        fleet=fleet.picture,
        runs=dispatcher,
        admission=Admission(Limits(settings.requests_max, settings.prompt_tokens_max)),
        metrics=metrics,
        tally=tally,
        clock=clock,
        new_seed=lambda: secrets.randbits(64),
        new_id=_new_id,
        request_timeout_s=settings.request_timeout_s,
    )


def _register(settings: RouterSettings, clock: Clock) -> RegisterFile | None:
    path = settings.api_keys_file
    return None if path is None else RegisterFile(path, clock)


def _surround(
    api: FastAPI,
    metrics: Metrics,
    traffic: Traffic,
    register: RegisterFile | None,
    tracing: Tracing,
) -> None:
    """What is around every request of a client."""
    api.add_exception_handler(BatonError, _on_baton_error)
    api.add_exception_handler(HTTPException, _on_http_error)
    api.add_middleware(DisconnectWatch)  # the last added is the outermost
    if register is not None:
        api.add_middleware(Entrance, register=register, metrics=metrics)
    api.add_middleware(Observed, metrics=metrics, traffic=traffic)
    if tracing.on:
        api.add_middleware(Traced, tracing=tracing)
    api.add_middleware(RequestIds, new_id=_new_id)


async def _on_baton_error(request: Request, error: Exception) -> Response:
    known = cast(BatonError, error)
    trace_of(request.scope).span.fail(known.code)
    return error_response(known)


async def _on_http_error(request: Request, error: Exception) -> Response:
    known = cast(HTTPException, error)
    trace_of(request.scope).span.fail(http_error_code(known) or str(known.status_code))
    return http_error_response(known)


def _new_id() -> str:
    return uuid.uuid4().hex
