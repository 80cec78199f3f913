"""What the services of both worker roles are made of, and what the app asks of them.

Plain records, wired in `worker.app`.
"""

from dataclasses import dataclass, field
from typing import Protocol

import grpc.aio

from baton.common.clock import Clock
from baton.common.metrics import Metrics
from baton.common.tracing import NO_TRACING
from baton.engine.costmodel import CostModel
from baton.handoff.layout import KvLayout
from baton.rpc.identity_files import TlsFiles
from baton.worker.loop import EngineLoop
from baton.worker.spans import RequestSpans
from baton.worker.state import WorkerLife


@dataclass(frozen=True, slots=True)
class WorkerParts:
    engine: EngineLoop
    life: WorkerLife
    layout: KvLayout
    vocab_size: int  # rows of the embedding: a token id at or above has no vector
    clock: Clock
    metrics: Metrics
    costs: CostModel
    tls: TlsFiles | None = None  # None: plaintext
    spans: RequestSpans = field(default_factory=lambda: RequestSpans(NO_TRACING))


class RoleService(Protocol):
    """What a role brings to the shared worker."""

    def register(self, server: grpc.aio.Server) -> None: ...

    async def aclose(self) -> None:
        """End streams that wait for more work; close channels."""
        ...
