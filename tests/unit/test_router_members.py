"""The fleet as it is heard: snapshots, deltas, silences, restarts, and names that change."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

import pytest
from baton.common.errors import ConfigError, Unavailable
from baton.router.decide import Fleet, Role, WorkerView
from baton.router.discovery import Member, address_of, parse_members
from baton.router.members import Members
from baton.router.watch import WatchReader
from baton.rpc.v1 import worker_pb2
from support.fake_fleet import decode_worker

STEADY = random.Random(0)


class FakeWatches:
    """Each address says what the test feeds it; None ends the watch."""

    def __init__(self) -> None:
        self.lines: dict[str, asyncio.Queue[WorkerView | None]] = {}
        self.dropped: list[str] = []

    def says(self, view: WorkerView) -> None:
        self.line(view.address).put_nowait(view)

    def breaks(self, address: str) -> None:
        self.line(address).put_nowait(None)

    def line(self, address: str) -> "asyncio.Queue[WorkerView | None]":
        return self.lines.setdefault(address, asyncio.Queue())

    async def watch(self, address: str) -> AsyncGenerator[WorkerView, None]:
        while (view := await self.line(address).get()) is not None:
            yield view
        raise Unavailable("broke")

    async def drop(self, address: str) -> None:
        self.dropped.append(address)


class FakeResolver:
    """Answers in turn; the last answer stays."""

    def __init__(self, *answers: set[str] | OSError) -> None:
        self._answers = list(answers)

    async def resolve(self, name: str) -> frozenset[str]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, OSError):
            raise answer
        return frozenset(answer)


class Listening:
    """Members under test, and what they told."""

    def __init__(self, *members: Member, resolver: FakeResolver | None = None) -> None:
        self.watches = FakeWatches()
        self.removed: list[str] = []
        self.told: list[Fleet] = []
        self.members = Members(
            [(Role.DECODE, member) for member in members],
            watches=self.watches,
            resolver=resolver or FakeResolver(set()),
            jitter=STEADY,
            dns_interval_s=0.001,
            on_change=self.told.append,
            on_removed=self.removed.append,
        )

    async def __aenter__(self) -> "Listening":
        self.members.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.members.aclose()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert await self.members.wait_change(5.0), "the fleet does not change any more"

    @property
    def ready(self) -> list[str]:
        return [view.address for view in self.members.fleet.ready(Role.DECODE)]


A = Member("a", 1, dns=False)
B = Member("b", 1, dns=False)


async def test_workers_appear_change_and_disappear() -> None:
    async with Listening(A, B) as heard:
        assert heard.members.fleet == Fleet()
        heard.watches.says(decode_worker("b:1"))
        heard.watches.says(decode_worker("a:1"))
        await heard.until(lambda: heard.ready == ["a:1", "b:1"])
        heard.watches.says(decode_worker("a:1", ready=False))
        await heard.until(lambda: heard.ready == ["b:1"])
        heard.watches.breaks("b:1")
        await heard.until(lambda: heard.ready == [])


async def test_a_worker_that_went_silent_is_heard_again() -> None:
    async with Listening(A) as heard:
        heard.watches.says(decode_worker("a:1"))
        await heard.until(lambda: heard.ready == ["a:1"])
        heard.watches.breaks("a:1")
        await heard.until(lambda: heard.ready == [])
        heard.watches.says(decode_worker("a:1", incarnation=2))
        await heard.until(lambda: heard.ready == ["a:1"])
        assert heard.members.fleet.workers[0].incarnation == 2


async def test_what_changes_nothing_for_routing_makes_no_new_fleet() -> None:
    async with Listening(A) as heard:
        for _ in range(3):
            heard.watches.says(decode_worker("a:1"))
        heard.watches.says(decode_worker("a:1", ready=False))
        await heard.until(lambda: len(heard.told) >= 2)
        assert [len(fleet.ready(Role.DECODE)) for fleet in heard.told] == [1, 0]


async def test_a_worker_of_another_role_than_listed_is_not_used() -> None:
    async with Listening(A, B) as heard:
        heard.watches.says(replace(decode_worker("a:1"), role=Role.PREFILL))
        heard.watches.says(decode_worker("b:1"))
        await heard.until(lambda: heard.ready == ["b:1"])
        assert [view.address for view in heard.members.fleet.workers] == ["b:1"]


async def test_names_are_resolved_again_and_survive_failures() -> None:
    resolver = FakeResolver({"10.0.0.1", "10.0.0.2"}, OSError("down"), {"10.0.0.2", "fd00::3"})
    async with Listening(Member("pods", 7, dns=True), resolver=resolver) as heard:
        for address in ("10.0.0.1:7", "10.0.0.2:7", "[fd00::3]:7"):
            heard.watches.says(decode_worker(address))
        await heard.until(lambda: heard.ready == ["10.0.0.2:7", "[fd00::3]:7"])
        assert heard.removed == ["10.0.0.1:7"]
        assert heard.watches.dropped == ["10.0.0.1:7"]


async def test_waiting_for_a_change_is_bounded() -> None:
    async with Listening(A) as heard:
        assert not await heard.members.wait_change(0.001)


def test_member_lists() -> None:
    assert parse_members("--x", ["host:1", "dns://svc.ns:50051", "[::1]:2"]) == (
        Member("host", 1, dns=False),
        Member("svc.ns", 50051, dns=True),
        Member("::1", 2, dns=False),
    )
    assert address_of("::1", 2) == "[::1]:2"


def test_every_malformed_member_is_told_at_once() -> None:
    bad = ["host", "host:", ":1", "host:0", "host:70000", "http://host:1", "a b:1"]
    with pytest.raises(ConfigError) as refused:
        parse_members("--decode-workers", [*bad, "good:1"])
    assert len(refused.value.problems) == len(bad)
    assert all(problem.startswith("--decode-workers: ") for problem in refused.value.problems)


def event(sequence: int, *, incarnation: int = 5, card: bool = False) -> worker_pb2.WatchEvent:
    known = worker_pb2.WorkerCard(role=worker_pb2.ROLE_DECODE, context_length_max=9)
    return worker_pb2.WatchEvent(
        incarnation=incarnation,
        sequence=sequence,
        state=worker_pb2.WORKER_STATE_READY,
        card=known if card else None,
    )


def test_deltas_keep_the_card_of_the_snapshot() -> None:
    reader = WatchReader("a:1")
    first = reader.view(event(0, card=True))
    assert (first.role, first.ready, first.context_length_max) == (Role.DECODE, True, 9)
    draining = event(1)
    draining.state = worker_pb2.WORKER_STATE_DRAINING
    assert reader.view(draining) == replace(first, ready=False)


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([event(1, card=True)], id="no-snapshot"),
        pytest.param([event(0)], id="snapshot-without-card"),
        pytest.param([event(0, card=True), event(2)], id="gap"),
        pytest.param([event(0, card=True), event(0, card=True)], id="repeated"),
        pytest.param([event(0, card=True), event(1, incarnation=6)], id="another-process"),
    ],
)
def test_what_was_missed_ends_the_watch(events: list[worker_pb2.WatchEvent]) -> None:
    reader = WatchReader("a:1")
    *good, bad = events
    for one in good:
        reader.view(one)
    with pytest.raises(Unavailable):
        reader.view(bad)
