"""The order of a comparison, what becomes of failures, and when a server counts as ready."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby

import httpx
import pytest
from baton.common.errors import Unavailable
from baton_loadtest.peers.bench import Cell, PeerBench, loads
from baton_loadtest.peers.client import Load, Measurement
from baton_loadtest.peers.contestant import Contestant
from baton_loadtest.peers.process import Command
from baton_loadtest.peers.server import is_ready, warm_up

FINE = Measurement(100.0, 0.2, 0.01, 0.02, completed=24, failed=0)


def contestant(name: str, workers: dict[str, int] | None = None) -> Contestant:
    return Contestant(name, False, lambda port: Command((name,), 1.0), "m", "/health", workers)


class FakeWorld:
    """Servers and client in one; remembers who served when and which loads were measured."""

    def __init__(self, down: str = "", fails_at: tuple[str, int] | None = None) -> None:
        self.up: list[str] = []
        self.together_max = 0
        self.measured: list[tuple[str, Load]] = []
        self._down = down
        self._fails_at = fails_at

    @contextmanager
    def serving(self, contestant: Contestant, round_: int) -> Iterator[str]:
        if contestant.name == self._down:
            raise Unavailable("it ended with exit code 1")
        self.up.append(contestant.name)
        self.together_max = max(self.together_max, len(self.up))
        try:
            yield contestant.name
        finally:
            self.up.remove(contestant.name)

    def measure(self, contestant: Contestant, url: str, round_: int, load: Load) -> Measurement:
        assert self.up == [contestant.name] == [url]
        self.measured.append((contestant.name, load))
        if (contestant.name, load.concurrency) == self._fails_at:
            raise Unavailable("not done after 1800 s")
        return FINE


def run(world: FakeWorld, rounds: int = 1, quick: bool = False) -> tuple[Cell, ...]:
    bench = PeerBench(world, world, tell=lambda text: None)
    return bench.run([contestant("a"), contestant("b")], rounds=rounds, quick=quick)


def test_contestants_take_turns_and_never_meet() -> None:
    world = FakeWorld()
    run(world, rounds=2)
    assert [name for name, _ in groupby(name for name, _ in world.measured)] == ["a", "b"] * 2
    assert (world.together_max, world.up) == (1, [])


def test_everybody_gets_the_same_loads() -> None:
    world = FakeWorld()
    run(world, rounds=2)
    of_a, of_b = ([load for name, load in world.measured if name == who] for who in "ab")
    assert of_a == of_b
    assert [load.concurrency for load in of_a] == [1, 8, 32] * 2


def test_no_two_loads_share_their_prompts() -> None:
    seeds = [load.seed for round_ in range(1, 10) for load in loads(round_, quick=False)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(("quick", "prompts"), [(False, [12, 24, 96]), (True, [6, 8, 32])])
def test_requests_grow_with_the_clients(quick: bool, prompts: list[int]) -> None:
    assert [load.prompts for load in loads(1, quick=quick)] == prompts


def test_a_server_that_does_not_start_fails_everywhere_and_the_next_one_runs() -> None:
    cells = run(FakeWorld(down="a"))
    assert [(c.contestant, c.concurrency, c.problem) for c in cells] == [
        *(("a", concurrency, "it ended with exit code 1") for concurrency in (1, 8, 32)),
        *(("b", concurrency, None) for concurrency in (1, 8, 32)),
    ]
    assert all(c.measurement == FINE for c in cells if c.contestant == "b")


def test_a_load_that_fails_fails_alone() -> None:
    cells = run(FakeWorld(fails_at=("a", 8)))
    assert [(c.contestant, c.concurrency) for c in cells if c.problem] == [("a", 8)]


def http(answer: httpx.Response | None) -> httpx.Client:
    def respond(request: httpx.Request) -> httpx.Response:
        if answer is None:
            raise httpx.ConnectError("nobody listens", request=request)
        return answer

    return httpx.Client(transport=httpx.MockTransport(respond))


@pytest.mark.parametrize(
    ("workers", "answer", "ready"),
    [
        (None, httpx.Response(200), True),
        (None, httpx.Response(503), False),
        (None, None, False),
        ({"prefill": 1}, httpx.Response(200, json={"workers": {"prefill": 1}}), True),
        ({"prefill": 1}, httpx.Response(200, json={"workers": {"prefill": 0}}), False),
        ({"prefill": 1}, httpx.Response(200, text="fine"), False),
    ],
)
def test_ready_is_a_good_answer_that_counts_all_workers(
    workers: dict[str, int] | None, answer: httpx.Response | None, ready: bool
) -> None:
    assert is_ready(contestant("a", workers), http(answer), "http://peer.test") == ready


@pytest.mark.parametrize(
    ("answer", "problem"), [(httpx.Response(500, text="broken"), "500 broken"), (None, "Connect")]
)
def test_a_server_that_refuses_its_first_request_is_not_measured(
    answer: httpx.Response | None, problem: str
) -> None:
    with pytest.raises(Unavailable, match=problem):
        warm_up(contestant("a"), http(answer), "http://peer.test")
