"""Whose turn it is, and the gate that keeps everyone else: no worker and no network."""

import asyncio
from dataclasses import replace

import pytest
from baton.common.errors import DeadlineExceeded, SloUnattainable
from baton.common.metrics import Metrics
from baton.engine.params import SamplingParams
from baton.router.fleet import Fleet, Role, WorkerState, WorkerView
from baton.router.tally import Tally, Targets
from baton.router.tenants.gate import FairGate, Turn
from baton.router.tenants.register import Tenant
from baton.router.tenants.turns import (
    PIECES_PER_WORKER,
    QUANTUM_TOKENS,
    Turns,
    Urgency,
    pieces_out_max,
)
from baton.router.work import Work
from prometheus_client import CollectorRegistry
from support.fake_fleet import decode_worker
from support.hand_clock import HandClock

Q = QUANTUM_TOKENS
RED, BLUE = Tenant("red"), Tenant("blue")
WORK = Work("w", (1,) * Q, SamplingParams(max_tokens=4), deadline_s=160.0)
PREFILL = replace(decode_worker("p"), role=Role.PREFILL)


def line(**waiting: int) -> Turns[str]:
    """Of each tenant so many pieces, of a quantum each."""
    turns: Turns[str] = Turns()
    for tenant, count in waiting.items():
        for number in range(count):
            turns.join(f"{tenant}{number}", tenant, 1, Q)
    return turns


def served(turns: Turns[str], count: int = 100) -> list[str]:
    taken = (turns.next() for _ in range(count))
    return [piece for piece in taken if piece is not None]


def test_tenants_take_turns_and_each_is_served_in_order() -> None:
    assert served(line(red=4, blue=2)) == ["red0", "blue0", "red1", "blue1", "red2", "red3"]


def test_a_tenant_of_twice_the_weight_has_twice_the_tokens() -> None:
    turns = line(red=3)
    for number in range(6):
        turns.join(f"blue{number}", "blue", 2, Q)
    assert served(turns, 6) == ["red0", "blue0", "blue1", "red1", "blue2", "blue3"]


def test_a_long_prompt_waits_for_as_many_visits_as_it_has_quanta() -> None:
    turns = line(blue=5)
    turns.join("red", "red", 1, 3 * Q)
    assert served(turns) == ["blue0", "blue1", "blue2", "red", "blue3", "blue4"]


def test_short_prompts_go_together_up_to_a_quantum() -> None:
    turns: Turns[str] = Turns()
    for number in range(4):
        turns.join(f"red{number}", "red", 1, Q // 2)
    turns.join("blue", "blue", 1, Q)
    assert served(turns) == ["red0", "red1", "blue", "red2", "red3"]


def test_what_is_most_urgent_goes_first_within_a_tenant_and_gets_before_no_other() -> None:
    turns = line(blue=2)
    for name, urgency in (
        ("red-late", Urgency(1)),
        ("red-due-9", Urgency(0, due_s=9.0)),
        ("red-due-3", Urgency(0, due_s=3.0)),
        ("red-first", Urgency(-1)),
        ("red-due-3-too", Urgency(0, due_s=3.0)),
    ):
        turns.join(name, "red", 1, Q, urgency)
    assert served(turns) == [
        *("blue0", "red-first", "blue1", "red-due-3"),
        *("red-due-3-too", "red-due-9", "red-late"),
    ]


def test_who_was_idle_has_saved_nothing_up() -> None:
    turns = line(red=10, blue=1)
    assert served(turns, 6)[1] == "blue0"
    for number in (1, 2):
        turns.join(f"blue{number}", "blue", 1, Q)
    assert served(turns, 4) in (
        ["blue1", "red5", "blue2", "red6"],
        ["red5", "blue1", "red6", "blue2"],
    )


def test_who_gives_up_is_passed_over_and_leaves_nothing_behind() -> None:
    turns = line(red=2, blue=1)
    turns.leave("red0", "red")
    turns.leave("blue0", "blue")
    assert (turns.waiting("red"), turns.waiting("blue")) == (1, 0)
    assert served(turns) == ["red1"]
    assert turns.next() is None


def test_empty_prompts_end_a_visit_as_well() -> None:
    turns: Turns[int] = Turns()
    for number in range(Q + 1):
        turns.join(number, "red", 1, 0)
    turns.join(-1, "blue", 1, 1)
    assert [turns.next() for _ in range(Q + 1)][-1] == -1


def test_so_much_is_out_as_keeps_the_ready_workers_busy() -> None:
    starting = decode_worker("s", state=WorkerState.STARTING)
    assert pieces_out_max(Fleet()) == PIECES_PER_WORKER
    assert pieces_out_max(Fleet((starting,))) == PIECES_PER_WORKER
    ready = (decode_worker("a"), decode_worker("b"), PREFILL)
    assert pieces_out_max(Fleet((starting, *ready))) == 3 * PIECES_PER_WORKER


class Scene:
    """A gate, a fleet that the test changes, and the turns that were asked for."""

    def __init__(self, *workers: WorkerView) -> None:
        self.fleet = Fleet()
        self.clock = HandClock()
        self.metrics = Metrics(CollectorRegistry(), model_name="m")
        self.tally = Tally(self.metrics, self.clock, Targets())
        self.gate = FairGate(self, self.clock, self.tally)
        self.becomes(*workers)

    def becomes(self, *workers: WorkerView) -> None:
        self.fleet = Fleet(workers)
        self.gate.fleet_changed()

    async def asks(self, tenant: Tenant, work: Work = WORK) -> "Asked":
        turn = self.gate.turn(replace(work, tenant=tenant))
        asked = Asked(turn, asyncio.create_task(turn.comes()))
        await asyncio.sleep(0)  # it is in line
        return asked

    @property
    def waiting(self) -> int:
        return self.tally.traffic().requests_waiting


class Asked:
    def __init__(self, turn: Turn, comes: "asyncio.Task[float]") -> None:
        self.turn = turn
        self.comes = comes


async def test_the_next_one_goes_when_one_comes_back_and_the_others_turn_comes_first() -> None:
    scene = Scene(decode_worker("a"))
    out = [await scene.asks(RED) for _ in range(PIECES_PER_WORKER)]
    assert all(asked.turn.out for asked in out)
    red, blue = await scene.asks(RED), await scene.asks(BLUE)
    assert (red.turn.out, blue.turn.out, scene.waiting) == (False, False, 2)
    out[0].turn.give_back()
    out[0].turn.give_back()  # a second time it is nobody's
    assert [red.turn.out, blue.turn.out].count(True) == 1
    out[1].turn.give_back()
    assert (red.turn.out, blue.turn.out, scene.waiting) == (True, True, 0)
    assert await asyncio.gather(red.comes, blue.comes) == [0.0, 0.0]
    text = scene.metrics.render().decode()
    assert 'baton_router_tenant_requests_waiting{model_name="m",tenant="blue"} 0.0' in text
    assert 'baton_router_tenant_turn_seconds_count{model_name="m",tenant="blue"} 1.0' in text


async def test_who_goes_away_leaves_the_line_at_once_and_keeps_no_turn() -> None:
    scene = Scene(decode_worker("a"))
    out = [await scene.asks(RED) for _ in range(PIECES_PER_WORKER)]
    leaving, staying = await scene.asks(BLUE), await scene.asks(BLUE)
    leaving.comes.cancel()
    leaving.turn.give_back()
    assert scene.waiting == 1
    out[0].turn.give_back()
    assert staying.turn.out


async def test_a_turn_that_comes_while_its_client_goes_is_not_lost() -> None:
    scene = Scene(decode_worker("a"))
    out = [await scene.asks(RED) for _ in range(PIECES_PER_WORKER)]
    leaving, staying = await scene.asks(BLUE), await scene.asks(BLUE)
    leaving.comes.cancel()  # it does not know yet
    out[0].turn.give_back()
    assert leaving.turn.out
    with pytest.raises(asyncio.CancelledError):
        await leaving.comes
    leaving.turn.give_back()  # as its `finally` does
    assert staying.turn.out


async def test_the_wait_ends_at_the_deadline() -> None:
    scene = Scene(decode_worker("a"))
    out = [await scene.asks(RED) for _ in range(PIECES_PER_WORKER)]
    late = await scene.asks(BLUE, replace(WORK, deadline_s=scene.clock.now_s + 0.001))
    with pytest.raises(DeadlineExceeded):
        await late.comes
    late.turn.give_back()
    assert scene.waiting == 0
    out[0].turn.give_back()
    assert not late.turn.out


async def test_the_wait_ends_when_the_first_token_would_be_of_no_use() -> None:
    scene = Scene(decode_worker("a"))
    out = [await scene.asks(RED) for _ in range(PIECES_PER_WORKER)]
    late = await scene.asks(BLUE, replace(WORK, first_token_by_s=scene.clock.now_s + 0.001))
    with pytest.raises(SloUnattainable, match=r"within 0\.001 s, in which others' turns"):
        await late.comes
    late.turn.give_back()
    out[0].turn.give_back()
    assert not late.turn.out


async def test_who_has_less_time_goes_before_his_own_tenants_others() -> None:
    scene = Scene(decode_worker("a"))
    out = [await scene.asks(RED) for _ in range(PIECES_PER_WORKER)]
    patient, batch = await scene.asks(BLUE), await scene.asks(BLUE, replace(WORK, priority=1))
    hurried = await scene.asks(BLUE, replace(WORK, first_token_by_s=scene.clock.now_s + 9.0))
    order = [hurried, patient, batch]
    for place, given_back in enumerate(out[:3], start=1):
        given_back.turn.give_back()
        assert [one.turn.out for one in order] == [True] * place + [False] * (3 - place)


async def test_another_worker_lets_more_out_and_a_lost_one_calls_nobody_back() -> None:
    scene = Scene(decode_worker("a"))
    asked = [await scene.asks(RED) for _ in range(3 * PIECES_PER_WORKER)]
    assert sum(one.turn.out for one in asked) == PIECES_PER_WORKER
    scene.becomes(decode_worker("a"), PREFILL)
    assert sum(one.turn.out for one in asked) == 2 * PIECES_PER_WORKER
    scene.becomes(decode_worker("a"))
    asked[0].turn.give_back()
    assert sum(one.turn.out for one in asked) == 2 * PIECES_PER_WORKER - 1


async def test_a_turn_tells_for_how_long_there_has_been_no_worker_to_go_to() -> None:
    """Who waited for a turn and a worker at once does not begin to wait for a worker then."""
    scene = Scene()
    out = [await scene.asks(RED) for _ in range(PIECES_PER_WORKER)]
    assert [await one.comes for one in out] == [0.0] * PIECES_PER_WORKER
    early = await scene.asks(RED)
    scene.clock.now_s += 3.0
    late = await scene.asks(RED)
    scene.clock.now_s += 2.0
    for one in out:
        one.turn.give_back()
    assert (await early.comes, await late.comes) == (5.0, 2.0)
    early.turn.give_back()
    scene.becomes(decode_worker("a"))
    scene.clock.now_s += 10.0
    scene.becomes(PREFILL)
    scene.clock.now_s += 1.0
    assert await (await scene.asks(RED)).comes == 0.0
