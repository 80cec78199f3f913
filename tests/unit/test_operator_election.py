"""Candidates for one Lease, on one virtual clock: never two leaders, and never none for long."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from baton_operator.election import TRY_TIMEOUT_S, Election
from baton_operator.kinds import Kind
from baton_operator.leadership import LEASE_S, RENEW_DEADLINE_S, RETRY_S
from baton_operator.metrics import OperatorMetrics
from prometheus_client import CollectorRegistry
from support.fake_kube import FakeKube

pytestmark = pytest.mark.looptime


class LoopClock:
    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    def unix_s(self) -> float:
        return 1_800_000_000.0 + asyncio.get_running_loop().time()


class Candidate:
    """An operator that counts when it leads, and its own view of the API server."""

    def __init__(self, server: FakeKube, name: str, leading: set[str]) -> None:
        self.name = name
        self.leading = leading  # of all candidates
        self.met_another = False
        self.kube = FakeKube()
        self.kube.objects = server.objects  # one store, and each its own connection
        self.metrics = OperatorMetrics(CollectorRegistry())
        self.leads = False
        self.terms = 0
        self.breaks = asyncio.Event()
        self.election = Election(
            self.kube, LoopClock(), self.metrics, namespace="system", name="lease", me=name
        )
        self.task: asyncio.Task[None] | None = None

    async def work(self) -> None:
        self.leads = True
        self.terms += 1
        self.met_another = self.met_another or bool(self.leading)
        self.leading.add(self.name)
        try:
            await self.breaks.wait()
            raise RuntimeError("a bug")
        finally:
            self.leads = False
            self.leading.discard(self.name)

    def stand(self) -> None:
        self.task = asyncio.create_task(self.election.lead(self.work))

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


@contextlib.asynccontextmanager
async def candidates(*names: str) -> AsyncIterator[list[Candidate]]:
    server = FakeKube()
    leading: set[str] = set()
    standing = [Candidate(server, name, leading) for name in names]
    for one in standing:
        one.stand()
    yield standing
    for one in standing:
        await one.stop()
    assert not any(one.met_another for one in standing), "two led at once"


async def test_one_leads_and_the_others_wait() -> None:
    async with candidates("a", "b", "c") as standing:
        await asyncio.sleep(60.0)
        assert [one.terms for one in standing] == [1, 0, 0]
        assert standing[0].leads
        assert all(one.election.heard for one in standing)
        page = standing[0].metrics.render()
        assert b'leader_election_master_status{name="modelservice"} 1.0' in page


async def test_when_the_leader_dies_another_leads_once_its_lease_has_run_out() -> None:
    async with candidates("a", "b") as (first, second):
        await asyncio.sleep(5.0)
        await first.stop()
        await asyncio.sleep(LEASE_S - 2 * RETRY_S)
        assert not second.leads
        await asyncio.sleep(4 * RETRY_S)
        assert second.leads


async def test_a_leader_that_lets_go_is_followed_at_once() -> None:
    async with candidates("a", "b") as (first, second):
        await asyncio.sleep(5.0)
        await first.stop()
        await first.election.release()
        await asyncio.sleep(RETRY_S + 0.1)
        assert second.leads


async def test_a_leader_cut_off_stops_before_another_starts_and_stands_again() -> None:
    async with candidates("a", "b") as (first, second):
        await asyncio.sleep(5.0)
        first.kube.away = True
        await asyncio.sleep(RENEW_DEADLINE_S + RETRY_S + TRY_TIMEOUT_S)
        assert not first.leads
        await asyncio.sleep(LEASE_S)
        assert second.leads
        first.kube.away = False
        await asyncio.sleep(60.0)
        assert (first.leads, second.leads) == (False, True)


async def test_after_an_outage_of_the_api_server_the_leader_leads_on() -> None:
    async with candidates("a", "b") as (first, second):
        await asyncio.sleep(5.0)
        first.kube.away = second.kube.away = True
        await asyncio.sleep(120.0)
        assert not first.leads
        first.kube.away = second.kube.away = False
        await asyncio.sleep(LEASE_S + 2 * RETRY_S)
        assert first.leads != second.leads


async def test_a_short_outage_costs_nobody_the_lead() -> None:
    async with candidates("a", "b") as (first, second):
        await asyncio.sleep(5.0)
        first.kube.away = second.kube.away = True
        await asyncio.sleep(RENEW_DEADLINE_S / 2)
        first.kube.away = second.kube.away = False
        await asyncio.sleep(30.0)
        assert (first.terms, second.terms) == (1, 0)


async def test_work_that_fails_ends_the_candidate() -> None:
    async with candidates("a") as (only,):
        await asyncio.sleep(1.0)
        only.breaks.set()
        assert only.task is not None
        with pytest.raises(RuntimeError, match="a bug"):
            await only.task


async def test_a_lease_that_somebody_took_by_hand_is_let_go() -> None:
    async with candidates("a") as (only,):
        await asyncio.sleep(5.0)
        lease = only.kube.of(Kind.LEASE)["lease"]
        lease["spec"]["holderIdentity"] = "somebody"
        lease["metadata"]["resourceVersion"] = "by hand"
        await asyncio.sleep(2 * RETRY_S)
        assert not only.leads


async def test_a_leader_renews_without_reading_what_it_wrote_itself() -> None:
    async with candidates("a") as (only,):
        await asyncio.sleep(60.0)
        assert only.leads
        assert only.kube.reads == 1
        assert len(only.kube.writes) >= 60 / RETRY_S - 1


async def test_a_lease_that_somebody_labels_costs_nobody_the_lead() -> None:
    async with candidates("a", "b") as (first, second):
        await asyncio.sleep(5.0)
        metadata = first.kube.of(Kind.LEASE)["lease"]["metadata"]
        metadata |= {"labels": {"team": "blue"}, "resourceVersion": "by hand"}
        await asyncio.sleep(2 * LEASE_S)
        assert (first.terms, second.terms) == (1, 0)
        assert first.kube.of(Kind.LEASE)["lease"]["metadata"]["labels"] == {"team": "blue"}


async def test_a_lease_that_somebody_deletes_is_made_again() -> None:
    async with candidates("a", "b") as (first, second):
        await asyncio.sleep(5.0)
        first.kube.objects.clear()
        await asyncio.sleep(2 * LEASE_S)
        assert first.leads != second.leads


async def test_a_lease_that_the_chart_made_is_taken_as_it_is() -> None:
    server = FakeKube()
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    metadata = {"name": "lease", "namespace": "system", "labels": labels}
    server.put({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata})
    only = Candidate(server, "a", set())
    only.stand()
    await asyncio.sleep(5.0)
    assert only.leads
    await only.stop()
    assert server.of(Kind.LEASE)["lease"]["metadata"]["labels"] == labels
