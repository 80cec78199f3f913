"""Launching a step before the last one's tokens are known changes no answer and loses no block."""

from collections import defaultdict
from collections.abc import Sequence

import pytest
from baton.engine.blocks import BlockPool
from baton.engine.engine import Engine
from baton.engine.messages import Submit, Tokens
from baton.engine.params import SamplingParams
from baton.engine.plan import KvIdentity, SchedulerLimits
from baton.engine.scheduler import Scheduler
from baton.engine.speculation import Guesser, PromptLookupGuesser, Speculative, StepCosts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.engine_schedules import EngineSchedules, HalfRightGuesser
from support.fake_launcher import FakeLauncher
from support.fake_runner import EOS, FakeRunner

BLOCK_SIZE = 4
CAPACITY = 48  # tokens of a request


class LentPool(BlockPool):
    """Fails where a block is given to somebody while a launched step may still write it."""

    def __init__(self, blocks: int, launcher: FakeLauncher) -> None:
        super().__init__(blocks, BLOCK_SIZE)
        self._launcher = launcher

    def allocate(self, count: int) -> list[int]:
        blocks = super().allocate(count)
        assert not self._launcher.writing.intersection(blocks)
        return blocks


class PipelinedSchedules(EngineSchedules):
    """Every schedule once more, with two steps under way wherever the plan allows it."""

    def new_pool(self, blocks: int) -> BlockPool:
        self.launcher = FakeLauncher(self.runner)
        return LentPool(blocks, self.launcher)

    def new_engine(self, scheduler: Scheduler, pool: BlockPool) -> Engine:
        return Engine(scheduler, pool, self.launcher, self.runner, self.launcher)


TestPipelinedSchedules = PipelinedSchedules.TestCase
TestPipelinedSchedules.settings = settings(
    max_examples=100,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def params_of(kind: int, max_tokens: int) -> SamplingParams:
    """Greedy, drawn, and three kinds whose next token takes the host."""
    choices = (
        SamplingParams(max_tokens, temperature=0.0),
        SamplingParams(max_tokens, seed=3),
        SamplingParams(max_tokens, temperature=0.0, logprobs=2),
        SamplingParams(max_tokens, frequency_penalty=0.5),
        SamplingParams(max_tokens, min_tokens=3),
    )
    return choices[kind]


class World:
    def __init__(
        self, blocks: int, seats: int, *, pipelined: bool, guesser: Guesser | None = None
    ) -> None:
        pool = BlockPool(blocks, BLOCK_SIZE)
        limits = SchedulerLimits(seats + 6, seats, min(CAPACITY, blocks * BLOCK_SIZE))
        scheduler = Scheduler(limits, pool, KvIdentity("tiny", "float32"), (EOS,), guesser)
        self.runner = FakeRunner(blocks, BLOCK_SIZE)
        self.launcher = FakeLauncher(self.runner)
        launcher = self.launcher if pipelined else None
        self.engine = Engine(scheduler, pool, self.runner, self.runner, launcher)


def told(world: World, submits: Sequence[Submit]) -> dict[str, list[Tokens]]:
    """Everything each request hears until nothing is left to do."""
    engine = world.engine
    for submit in submits:
        world.runner.expect(submit.request_id, submit.prompt)
        engine.apply(submit)
    heard: dict[str, list[Tokens]] = defaultdict(list)
    for _ in range(2_000):
        for event in engine.step().events:
            assert isinstance(event, Tokens)
            heard[event.request_id].append(event)
        engine.audit()
        if not engine.has_work():
            return dict(heard)
    raise AssertionError("work that never ends")


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    wishes=st.lists(
        st.tuples(st.integers(1, 25), st.integers(0, 4), st.integers(1, 14)), min_size=1, max_size=7
    ),
    blocks=st.integers(12, 30),
    seats=st.integers(1, 5),
)
def test_each_request_hears_what_it_would_hear_from_the_unpipelined_engine(
    wishes: list[tuple[int, int, int]], blocks: int, seats: int
) -> None:
    submits = [
        # no prompt is another's prefix: what the cache holds would hang on the schedule
        Submit(
            f"r{index}",
            tuple((index * 11 + place * 7) % 89 + 2 for place in range(length)),
            params_of(kind, max_tokens),
        )
        for index, (length, kind, max_tokens) in enumerate(wishes)
    ]
    expected = told(World(blocks, seats, pipelined=False), submits)
    found = told(World(blocks, seats, pipelined=True), submits)
    assert {name: merged(events) for name, events in found.items()} == {
        name: merged(events) for name, events in expected.items()
    }


def merged(events: Sequence[Tokens]) -> list[object]:
    return [(event.tokens, event.finish, event.error, event.cached_tokens) for event in events]


def test_decoding_requests_keep_two_steps_under_way() -> None:
    world = World(24, 4, pipelined=True)
    length = 12
    params = SamplingParams(length, temperature=0.0, ignore_eos=True)
    told(world, [Submit(f"r{i}", (i + 2, 3), params) for i in range(4)])
    # all but the first are launched while the one before is under way
    assert world.launcher.launched_ahead == length - 1


class Hopeful(HalfRightGuesser):
    """Has a guess for every step."""

    def wish(self, request: Speculative, *, decoding: int) -> int:
        return 1


@pytest.mark.parametrize(
    ("guesser", "ahead"),
    [
        (Hopeful(), 0),
        # it finds nothing to guess from: no two of these answers' words were said before
        (PromptLookupGuesser(lambda: StepCosts(1.0, 0.0), guesses_max=3), 11),
    ],
    ids=["guesses", "no guesses"],
)
def test_only_guesses_wait_for_the_token_they_follow(guesser: Guesser, ahead: int) -> None:
    world = World(24, 4, pipelined=True, guesser=guesser)
    params = SamplingParams(12, temperature=0.0, ignore_eos=True)
    told(world, [Submit(f"r{i}", (i + 2, 3), params) for i in range(4)])
    assert world.launcher.launched_ahead == ahead


def test_a_request_drawn_on_the_host_is_waited_for() -> None:
    world = World(24, 4, pipelined=True)
    params = SamplingParams(8, temperature=0.0, ignore_eos=True, logprobs=1)
    told(world, [Submit("r", (2, 3, 5), params)])
    assert world.launcher.launched_ahead == 0
