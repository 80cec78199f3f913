"""The composition root of the router: everything is built and wired here, and only here."""

import random
import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException

from baton.common.clock import Clock
from baton.common.errors import BatonError
from baton.common.metrics import Metrics
from baton.model.card import read_config
from baton.model.chat import ChatTemplate
from baton.model.fetch import resolve
from baton.model.progress import progress_for_stderr
from baton.model.tokenizer import load_tokenizer
from baton.router.admission import Admission, Limits
from baton.router.decide import Fleet, Role
from baton.router.decode_link import DecodeLinks
from baton.router.discovery import SystemResolver, parse_members
from baton.router.dispatch import Dispatcher
from baton.router.members import Members
from baton.router.middleware import DisconnectWatch, Observed, RequestIds
from baton.router.openai.errors import error_response, http_error_response
from baton.router.openai.routes import api_routes, operator_routes
from baton.router.openai.service import Completions
from baton.router.settings import RouterSettings
from baton.router.telemetry import ROUTER_METRICS
from baton.router.text import TextModel, longest_token_bytes
from baton.router.traffic import Traffic
from baton.router.watch import GrpcWatches
from baton.rpc.channels import Channels


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


def create_app(
    settings: RouterSettings, model: TextModel, *, clock: Clock, traffic: Traffic
) -> FastAPI:
    """The ASGI application; its lifespan listens to the workers. Raises ConfigError."""
    metrics = Metrics(CollectorRegistry(), model_name=model.name)
    metrics.declare(ROUTER_METRICS)
    # Watches and request streams close their channels at different times.
    watch_channels, link_channels = Channels(), Channels()
    links = DecodeLinks(link_channels)
    members = _members(settings, watch_channels, links, metrics)
    dispatcher = Dispatcher(
        fleet=members,
        links=links,
        clock=clock,
        metrics=metrics,
        eos_token_ids=model.tokenizer.eos_token_ids,
        ready_wait_s=settings.ready_wait_s,
    )
    completions = Completions(
        model=model,
        fleet=members,
        runs=dispatcher,
        admission=Admission(Limits(settings.requests_max, settings.prompt_tokens_max)),
        metrics=metrics,
        clock=clock,
        new_seed=lambda: secrets.randbits(64),
        new_id=_new_id,
        request_timeout_s=settings.request_timeout_s,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        members.start()
        yield
        await members.aclose()
        await links.aclose()
        await link_channels.aclose()
        await watch_channels.aclose()

    # No generated documentation: its pages load scripts from elsewhere.
    app = FastAPI(title="Baton", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(api_routes(completions, traffic, body_bytes_max=settings.body_bytes_max))
    app.include_router(operator_routes(members, traffic, metrics))
    app.add_exception_handler(BatonError, _on_baton_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_middleware(DisconnectWatch)  # the last added is the outermost
    app.add_middleware(Observed, metrics=metrics, traffic=traffic)
    app.add_middleware(RequestIds, new_id=_new_id)
    return app


def _members(
    settings: RouterSettings, channels: Channels, links: DecodeLinks, metrics: Metrics
) -> Members:
    def on_change(fleet: Fleet) -> None:
        for role in Role:
            ready = len(fleet.ready(role))
            metrics.gauge("baton_router_workers_ready", ready, role=role.value)

    on_change(Fleet())
    decodes = parse_members("--decode-workers", settings.decode_workers)
    prefills = parse_members("--prefill-workers", settings.prefill_workers)
    return Members(
        [
            *((Role.DECODE, member) for member in decodes),
            *((Role.PREFILL, member) for member in prefills),
        ],
        watches=GrpcWatches(channels),
        resolver=SystemResolver(),
        jitter=random.Random(),
        dns_interval_s=settings.dns_interval_s,
        on_change=on_change,
        on_removed=links.retire,
    )


async def _on_baton_error(_: Request, error: Exception) -> Response:
    return error_response(cast(BatonError, error))


async def _on_http_error(_: Request, error: Exception) -> Response:
    return http_error_response(cast(HTTPException, error))


def _new_id() -> str:
    return uuid.uuid4().hex
