"""Leads while a Lease says so, and does nothing else meanwhile. What to do about a Lease is decided
in `leadership`; this reads it, writes it and keeps time."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from baton.common.clock import Clock
from baton.common.logs import get_log

from baton_operator.kinds import Kind
from baton_operator.kube import ApiFailure, Kube
from baton_operator.leadership import (
    RENEW_DEADLINE_S,
    RETRY_S,
    LeaseRecord,
    Move,
    Sighting,
    claimed,
    lease_spec,
    next_move,
    read_record,
    released,
    sight,
)
from baton_operator.manifest import Manifest
from baton_operator.metrics import CONTROLLER, OperatorMetrics

TRY_TIMEOUT_S = 4.0
"""Of one try; two fit into the time after which a leader stops."""

CONFLICT = 409

_log = get_log(__name__)


class Election:
    """One candidate for one Lease."""

    def __init__(
        self,
        kube: Kube,
        clock: Clock,
        metrics: OperatorMetrics,
        *,
        namespace: str,
        name: str,
        me: str,
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._metrics = metrics
        self._namespace, self._name, self._me = namespace, name, me
        self._sighting: Sighting | None = None
        self._written: Manifest | None = None  # the Lease as our last write left it
        self.heard = False  # whether the API server has answered once
        self._show(leading=False)

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` whenever this candidate leads, until cancelled; it is cancelled when the Lease
        is lost. Raises what `work` raises."""
        while True:
            await self._acquire()
            _log.info("leading", lease=self._name, holder=self._me)
            try:
                await self._work_while_leading(work)
            finally:
                self._show(leading=False)
            _log.warning("leadership lost", lease=self._name, holder=self._me)

    async def release(self) -> None:
        """Let go of the Lease if it is ours, so that another need not wait."""
        try:
            async with asyncio.timeout(TRY_TIMEOUT_S):
                lease = await self._kube.read(Kind.LEASE, self._namespace, self._name)
                if lease is not None and read_record(lease).holder == self._me:
                    record = released(read_record(lease), self._now())
                    await self._kube.replace(self._lease(record, lease))
        except (ApiFailure, TimeoutError) as error:
            _log.warning("lease not released", error=str(error))

    async def _acquire(self) -> None:
        while True:
            if await self._try():
                return
            await asyncio.sleep(RETRY_S)

    async def _work_while_leading(self, work: Callable[[], Awaitable[None]]) -> None:
        self._show(leading=True)
        working = asyncio.ensure_future(work())
        renewing = asyncio.create_task(self._renew_until_lost())
        try:
            await asyncio.wait((working, renewing), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (working, renewing):
                task.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)

    async def _renew_until_lost(self) -> None:
        renewed_s = self._clock.monotonic_s()
        while self._clock.monotonic_s() - renewed_s < RENEW_DEADLINE_S:
            await asyncio.sleep(RETRY_S)
            tried_s = self._clock.monotonic_s()
            if await self._try():
                renewed_s = tried_s
            elif self._sighting is not None and self._sighting.record.holder != self._me:
                return  # somebody else has it

    async def _try(self) -> bool:
        """Whether the Lease is ours after this."""
        try:
            async with asyncio.timeout(TRY_TIMEOUT_S):
                if await self._renewed_unread():
                    return True
                lease = await self._kube.read(Kind.LEASE, self._namespace, self._name)
                self.heard = True
                return await self._move(lease)
        except TimeoutError:
            return False
        except ApiFailure as failure:
            if failure.status != CONFLICT:  # another candidate was faster
                _log.warning("lease not renewed", reason=failure.message)
            return False

    async def _renewed_unread(self) -> bool:
        """Whether the Lease was still as we wrote it, and now is renewed: one call, not two, every
        RETRY_S for ever. Where it was not, it has to be read."""
        lease, self._written = self._written, None
        if lease is None:
            return False
        try:
            return await self._move(lease)
        except ApiFailure as failure:
            if failure.refused or failure.status == CONFLICT:
                return False
            raise

    async def _move(self, lease: Manifest | None) -> bool:
        now_s = self._clock.monotonic_s()
        record = None if lease is None else read_record(lease)
        self._sighting = None if record is None else sight(record, self._sighting, now_s)
        move = next_move(self._sighting, self._me, now_s)
        if move is Move.WAIT:
            return False
        ours = claimed(record, self._me, self._now())
        if lease is None:
            self._written = await self._kube.create(self._lease(ours, None))
        else:
            self._written = await self._kube.replace(self._lease(ours, lease))
        self._sighting = Sighting(ours, now_s)
        return True

    def _lease(self, record: LeaseRecord, found: Manifest | None) -> Manifest:
        """What was found with another spec, and with the version that was read: whoever wrote in
        between has been faster. Its labels are those of whoever made it, the chart perhaps."""
        made: Manifest = found or {
            "apiVersion": Kind.LEASE.resource.api_version,
            "kind": Kind.LEASE.resource.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
        }
        return {**made, "spec": lease_spec(record)}

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.unix_s(), UTC)

    def _show(self, *, leading: bool) -> None:
        self._metrics.gauge("leader_election_master_status", float(leading), name=CONTROLLER)
