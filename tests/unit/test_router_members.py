"""The fleet as it is heard: snapshots, deltas, silences, restarts, and names that change."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

import pytest
from baton.common.errors import ConfigError, Unavailable
from baton.engine.costmodel import Coefficients
from baton.router.discovery import Member, ServiceMember, address_of, parse_members
from baton.router.fleet import Fleet, Heard, Role, WorkerLoad, WorkerState, WorkerView
from baton.router.members import Members
from baton.router.picture import Picture
from baton.router.watch import WatchReader
from baton.rpc.v1 import worker_pb2
from support.fake_fleet import decode_worker
from support.hand_clock import HandClock

STEADY = random.Random(0)


class FakeWatches:
    """Each address says what the test feeds it; None ends the watch."""

    def __init__(self) -> None:
        self.lines: dict[str, asyncio.Queue[Heard | None]] = {}
        self.dropped: list[str] = []

    def says(self, view: WorkerView, load: WorkerLoad | None = None) -> None:
        self.line(view.address).put_nowait(Heard(view, load or WorkerLoad()))

    def breaks(self, address: str) -> None:
        self.line(address).put_nowait(None)

    def line(self, address: str) -> "asyncio.Queue[Heard | None]":
        return self.lines.setdefault(address, asyncio.Queue())

    async def watch(self, address: str) -> AsyncGenerator[Heard, None]:
        while (heard := await self.line(address).get()) is not None:
            yield heard
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


class FakeServices:
    """Tells what the test feeds it: addresses, or a trouble."""

    def __init__(self) -> None:
        self.news: asyncio.Queue[set[str] | str] = asyncio.Queue()

    async def follow(
        self, member: ServiceMember, on_trouble: Callable[[str], None]
    ) -> AsyncGenerator[frozenset[str], None]:
        while True:
            told = await self.news.get()
            if isinstance(told, str):
                on_trouble(told)
            else:
                yield frozenset(told)

    async def aclose(self) -> None:
        pass


class Listening:
    """Members under test, and what they told."""

    def __init__(
        self,
        *members: Member | ServiceMember,
        resolver: FakeResolver | None = None,
        silence_limit_s: float = 5.0,
    ) -> None:
        self.watches, self.services = FakeWatches(), FakeServices()
        self.picture, self.clock = Picture(), HandClock()
        self.told: list[Fleet] = []
        self.gone: list[str] = []
        self.lost: list[str] = []
        self.not_used: list[str] = []
        self.members = Members(
            [(Role.DECODE, member) for member in members],
            model_name="m",
            picture=self.picture,
            watches=self.watches,
            resolver=resolver or FakeResolver(set()),
            services=self.services,
            clock=self.clock,
            jitter=STEADY,
            dns_interval_s=0.001,
            audience=self,
            silence_limit_s=silence_limit_s,
        )

    def fleet_changed(self) -> None:
        self.told.append(self.picture.fleet)

    def removed(self, address: str) -> None:
        self.gone.append(address)

    def frozen(self, address: str) -> None:
        self.lost.append(address)

    def refused(self, reason: str) -> None:
        self.not_used.append(reason)

    async def __aenter__(self) -> "Listening":
        self.members.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.members.aclose()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 (what is waited for has no event)
                await asyncio.sleep(0)

    @property
    def ready(self) -> list[str]:
        return [view.address for view in self.picture.fleet.ready(Role.DECODE)]


A = Member("a", 1, dns=False)
B = Member("b", 1, dns=False)
DECODES = ServiceMember("ns", "decodes", 7)


async def test_workers_appear_change_and_disappear() -> None:
    async with Listening(A, B) as heard:
        assert heard.picture.fleet == Fleet()
        heard.watches.says(decode_worker("b:1"))
        heard.watches.says(decode_worker("a:1"))
        await heard.until(lambda: heard.ready == ["a:1", "b:1"])
        heard.watches.says(decode_worker("a:1", state=WorkerState.STARTING))
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
        assert heard.picture.fleet.workers[0].incarnation == 2


async def test_what_changes_nothing_for_routing_makes_no_new_fleet() -> None:
    async with Listening(A) as heard:
        for _ in range(3):
            heard.watches.says(decode_worker("a:1"))
        heard.watches.says(decode_worker("a:1", state=WorkerState.STARTING))
        await heard.until(lambda: len(heard.told) >= 2)
        assert [len(fleet.ready(Role.DECODE)) for fleet in heard.told] == [1, 0]


async def test_a_worker_of_another_role_than_listed_is_not_used() -> None:
    async with Listening(A, B) as heard:
        heard.watches.says(replace(decode_worker("a:1"), role=Role.PREFILL))
        heard.watches.says(decode_worker("b:1"))
        await heard.until(lambda: heard.ready == ["b:1"])
        assert [view.address for view in heard.picture.fleet.workers] == ["b:1"]


async def test_names_are_resolved_again_and_survive_failures() -> None:
    resolver = FakeResolver({"10.0.0.1", "10.0.0.2"}, OSError("down"), {"10.0.0.2", "fd00::3"})
    async with Listening(Member("pods", 7, dns=True), resolver=resolver) as heard:
        for address in ("10.0.0.1:7", "10.0.0.2:7", "[fd00::3]:7"):
            heard.watches.says(decode_worker(address))
        await heard.until(lambda: heard.ready == ["10.0.0.2:7", "[fd00::3]:7"])
        await heard.until(lambda: heard.gone == heard.watches.dropped == ["10.0.0.1:7"])


async def test_a_worker_of_another_model_is_not_used_and_told_of_once() -> None:
    async with Listening(A, B) as heard:
        for _ in range(3):  # tried again and again: another may take the address
            heard.watches.says(replace(decode_worker("a:1"), model_name="other"))
        heard.watches.says(decode_worker("b:1"))
        await heard.until(lambda: heard.ready == ["b:1"])
        await heard.until(lambda: heard.not_used == ["model"])
        heard.watches.says(decode_worker("a:1"))
        await heard.until(lambda: heard.ready == ["a:1", "b:1"])
        assert heard.not_used == ["model"]


async def test_endpoints_of_a_service_come_and_go() -> None:
    async with Listening(DECODES) as heard:
        for address in ("10.0.0.1:7", "10.0.0.2:7"):
            heard.watches.says(decode_worker(address))
        heard.services.news.put_nowait({"10.0.0.1"})
        await heard.until(lambda: heard.ready == ["10.0.0.1:7"])
        heard.services.news.put_nowait({"10.0.0.1", "10.0.0.2"})
        await heard.until(lambda: heard.ready == ["10.0.0.1:7", "10.0.0.2:7"])
        heard.services.news.put_nowait({"10.0.0.2"})
        await heard.until(lambda: heard.ready == ["10.0.0.2:7"])
        await heard.until(lambda: heard.gone == heard.watches.dropped == ["10.0.0.1:7"])


async def test_until_endpoints_were_read_once_it_is_told_why_not() -> None:
    async with Listening(DECODES) as heard:
        assert heard.members.unlisted == ("endpoints of ns/decodes: not read yet",)
        heard.services.news.put_nowait("the API server is away")
        await heard.until(lambda: "away" in heard.members.unlisted[0])
        heard.services.news.put_nowait(set())
        await heard.until(lambda: heard.members.unlisted == ())
        heard.services.news.put_nowait("the API server is away")
        heard.services.news.put_nowait({"10.0.0.1"})
        heard.watches.says(decode_worker("10.0.0.1:7"))
        await heard.until(lambda: heard.ready == ["10.0.0.1:7"])
        assert heard.members.unlisted == ()  # what was known stays


async def test_a_worker_whose_steps_stand_still_while_it_has_work_is_lost() -> None:
    busy = WorkerLoad(running=1, step=7)
    async with Listening(A) as heard:
        heard.watches.says(decode_worker("a:1"), busy)
        await heard.until(lambda: heard.ready == ["a:1"])
        heard.clock.now_s += 3.1
        heard.watches.says(decode_worker("a:1"), busy)
        await heard.until(lambda: heard.ready == [])
        assert heard.lost == ["a:1"]
        heard.watches.says(decode_worker("a:1"), replace(busy, step=8))
        await heard.until(lambda: heard.ready == ["a:1"])


async def test_an_idle_worker_may_stand_still_for_ever() -> None:
    async with Listening(A) as heard:
        heard.watches.says(decode_worker("a:1"), WorkerLoad(step=7))
        await heard.until(lambda: heard.ready == ["a:1"])
        heard.clock.now_s += 1_000.0
        heard.watches.says(decode_worker("a:1"), WorkerLoad(step=7))
        heard.watches.says(decode_worker("a:1"), WorkerLoad(running=1, step=7))
        await heard.until(lambda: heard.watches.line("a:1").empty())
        assert (heard.ready, heard.lost) == (["a:1"], [])


async def test_a_worker_that_falls_silent_is_lost() -> None:
    async with Listening(A, silence_limit_s=0.01) as heard:
        heard.watches.says(decode_worker("a:1"))
        await heard.until(lambda: heard.lost == ["a:1"])
        assert heard.ready == []


def test_member_lists() -> None:
    assert parse_members(
        "--x", ["host:1", "dns://svc.ns:50051", "[::1]:2", "endpoints://ns/svc:3"]
    ) == (
        Member("host", 1, dns=False),
        Member("svc.ns", 50051, dns=True),
        Member("::1", 2, dns=False),
        ServiceMember("ns", "svc", 3),
    )
    assert address_of("::1", 2) == "[::1]:2"


def test_every_malformed_member_is_told_at_once() -> None:
    bad = ["host", "host:", ":1", "host:0", "host:70000", "http://host:1", "a b:1"]
    bad += ["endpoints://svc:1", "endpoints://ns/svc", "endpoints://ns/svc:0", "endpoints://n/A:1"]
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
    first = reader.read(event(0, card=True)).view
    assert (first.role, first.ready, first.context_length_max) == (Role.DECODE, True, 9)
    draining = event(1)
    draining.state = worker_pb2.WORKER_STATE_DRAINING
    assert reader.read(draining).view == replace(first, state=WorkerState.DRAINING)


def test_deltas_carry_load_pace_and_changed_blocks() -> None:
    reader = WatchReader("a:1")
    assert reader.read(event(0, card=True)).snapshot
    delta = event(1)
    delta.load.CopyFrom(worker_pb2.Load(running=2, waiting=1, blocks_used=5, step=9))
    delta.cost_model.CopyFrom(worker_pb2.CostModel(fixed_s=0.5, prefill_token_s=0.25))
    delta.cost_model.transfers.add(peer="p:1", bytes_per_s=1e6)
    delta.blocks_added.append(b"new")
    delta.blocks_removed.append(b"old")
    heard = reader.read(delta)
    assert not heard.snapshot
    assert (heard.blocks_added, heard.blocks_removed) == ((b"new",), (b"old",))
    assert (heard.load.running, heard.load.waiting, heard.load.step) == (2, 1, 9)
    assert heard.load.coefficients == Coefficients(fixed_s=0.5, prefill_token_s=0.25)
    assert heard.load.transfer_rate("p:1") == heard.load.transfer_rate("q:1") == 1e6


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
        reader.read(one)
    with pytest.raises(Unavailable):
        reader.read(bad)
