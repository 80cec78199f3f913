"""Random schedules on the pure engine: whatever arrives, is cut short, cancelled, preempted, handed
over or lost, the books balance after every step and every finished request has the output of its
solo run."""

from collections.abc import Sequence
from dataclasses import dataclass

from baton.engine.blocks import BlockPool
from baton.engine.draft import DraftGuesser
from baton.engine.engine import Engine
from baton.engine.messages import (
    Cancel,
    KvArrived,
    KvComplete,
    KvLost,
    Progress,
    Release,
    Reserved,
    Submit,
    Tokens,
)
from baton.engine.params import FinishReason, SamplingParams, TokenSample
from baton.engine.plan import KvIdentity, SchedulerLimits
from baton.engine.request import Request
from baton.engine.scheduler import Scheduler
from baton.engine.speculation import Guesser, Speculative, StepCosts
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.fake_runner import EOS, FakeRunner, next_token, prefix_hash, solo_output

BLOCK_SIZE = 4
STEPS_MAX = 5000  # a drain that needs more is a livelock


@dataclass
class Expected:
    prompt: tuple[int, ...]
    params: SamplingParams
    export: bool
    output: list[int]
    reserved: Reserved | None = None
    finish: FinishReason | None = None
    asked_to_end: FinishReason | None = None
    held: bool = False
    progress: Progress | None = None


class HalfRightGuesser:
    """Guesses of which some are right: as many as the hash of their place says, up to four."""

    def wish(self, request: Speculative, *, decoding: int) -> int:
        return prefix_hash(request.tokens(0, request.length))[0] % 5

    def guess(self, wanted: Sequence[tuple[Speculative, int]]) -> list[tuple[int, ...]]:
        return [self._guess(request, count) for request, count in wanted]

    def _guess(self, request: Speculative, count: int) -> tuple[int, ...]:
        assert isinstance(request, Request)
        tokens = list(request.tokens(0, request.length))
        right = prefix_hash(tokens)[1] % 5
        for index in range(count):
            token = next_token(tokens, request.params)
            tokens.append(token if index < right else (token + 1) % 90)
        return tuple(tokens[request.length :])

    def learn(self, request: Speculative, guessed: int, accepted: int) -> None:
        assert 0 <= accepted <= guessed


class EngineSchedules(RuleBasedStateMachine):
    @initialize(
        blocks=st.integers(6, 24),
        seats=st.integers(1, 5),
        extra=st.integers(0, 12),
        backlog=st.sampled_from([0, 9, 40]),
        guessing=st.sampled_from(["nobody", "half right", "a draft"]),
    )
    def build(self, blocks: int, seats: int, extra: int, backlog: int, guessing: str) -> None:
        self.capacity = min(blocks * BLOCK_SIZE, 60)
        self.runner = FakeRunner(blocks, BLOCK_SIZE)
        pool = self.new_pool(blocks)
        limits = SchedulerLimits(seats + extra, seats, self.capacity, backlog)
        self.draft = FakeRunner(blocks, BLOCK_SIZE, shares_writes=True)
        guesser: Guesser | None = None
        if guessing == "half right":
            guesser = HalfRightGuesser()
        elif guessing == "a draft":
            guesser = DraftGuesser(
                self.draft,
                lambda: StepCosts(base_s=0.01, row_s=0.0001),
                guesses_max=3,
                guess_share=0.1,
                step_tokens_max=limits.token_budget,
                eos_token_ids=(EOS,),
            )
        identity = KvIdentity("tiny", "float32")
        scheduler = Scheduler(limits, pool, identity, (EOS,), guesser)
        self.engine = self.new_engine(scheduler, pool)
        self.token_budget = limits.token_budget
        self.step_tokens_max = max(limits.token_budget, backlog)
        self.requests: dict[str, Expected] = {}
        self.cancelled: set[str] = set()

    def new_pool(self, blocks: int) -> BlockPool:
        return BlockPool(blocks, BLOCK_SIZE)

    def new_engine(self, scheduler: Scheduler, pool: BlockPool) -> Engine:
        """One step after the other."""
        return Engine(scheduler, pool, self.runner, self.runner)

    @rule(
        prompt_seed=st.integers(0, 2),  # few seeds: prefixes are shared often
        length=st.integers(1, 40),
        resumed=st.integers(0, 3),
        max_tokens=st.integers(1, 12),
        seed=st.integers(0, 2),
        kind=st.sampled_from(["local", "local", "remote", "remote", "export"]),
        priority=st.sampled_from([0, 0, 0, -1, 2]),
    )
    def arrive(
        self,
        prompt_seed: int,
        length: int,
        resumed: int,
        max_tokens: int,
        seed: int,
        kind: str,
        priority: int,
    ) -> None:
        length = min(length, self.capacity - 5)
        prompt = tuple((prompt_seed * 31 + i * 7) % 89 + 2 for i in range(length))
        params = SamplingParams(max_tokens=max_tokens, temperature=float(seed > 0), seed=seed)
        output = solo_output(prompt, params, self.capacity)[: min(resumed, max_tokens - 1)]
        if output and output[-1] == EOS:
            output = []
        name = f"r{len(self.requests)}"
        self.requests[name] = Expected(prompt, params, kind == "export", list(output))
        self.runner.expect(name, prompt, output)
        self.draft.expect(name, prompt, output)
        self.engine.apply(
            Submit(
                name,
                prompt,
                params,
                output=tuple(output),
                remote=kind == "remote",
                export=kind == "export",
                priority=priority,
            )
        )

    @rule()
    def step(self) -> None:
        report = self.engine.step()
        for event in report.events:
            expected = self.requests[event.request_id]
            assert expected.finish is None, "an event after the last one"
            if isinstance(event, Reserved):
                expected.reserved = event
            elif isinstance(event, Progress):
                expected.progress = event
            elif isinstance(event, Tokens):
                expected.output.extend(token.token_id for token in event.tokens)
                expected.finish = event.finish
                expected.held = expected.export and bool(event.tokens)
                if event.finish is not None:
                    self.check_end(expected)

    def check_end(self, expected: Expected) -> None:
        solo = solo_output(expected.prompt, expected.params, self.capacity)
        if expected.finish in (FinishReason.STOP, FinishReason.LENGTH):
            assert expected.output == solo
        else:
            assert expected.finish is expected.asked_to_end
            assert expected.output == solo[: len(expected.output)]

    def awaiting(self) -> list[str]:
        return [n for n, e in self.requests.items() if e.reserved and e.finish is None]

    @precondition(lambda self: self.awaiting())
    @rule(data=st.data(), outcome=st.sampled_from(["arrive", "complete", "lose"]))
    def transfer(self, data: st.DataObject, outcome: str) -> None:
        name = data.draw(st.sampled_from(self.awaiting()))
        expected = self.requests[name]
        assert expected.reserved is not None
        known = [*expected.prompt, *expected.output]
        self.runner.fill(expected.reserved.block_table, known)
        if outcome == "arrive":
            self.engine.apply(KvArrived(name, data.draw(st.integers(0, len(known) // BLOCK_SIZE))))
            return
        expected.reserved = None
        if outcome == "lose":
            self.engine.apply(KvLost(name))
        else:
            token = TokenSample(next_token(known, expected.params))
            self.engine.apply(KvComplete(name, token, 0))

    def alive(self) -> list[str]:
        return [n for n, e in self.requests.items() if e.finish is None]

    @precondition(lambda self: self.alive())
    @rule(data=st.data(), reason=st.sampled_from([FinishReason.CANCELLED, FinishReason.DEADLINE]))
    def cancel(self, data: st.DataObject, reason: FinishReason) -> None:
        name = data.draw(st.sampled_from(self.alive()))
        expected = self.requests[name]
        expected.asked_to_end = expected.asked_to_end or reason
        expected.reserved = None
        self.cancelled.add(name)
        self.engine.apply(Cancel(name, reason))

    def held(self) -> list[str]:
        return [n for n in self.alive() if self.requests[n].held and n not in self.cancelled]

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.let_go(data.draw(st.sampled_from(self.held())))

    def let_go(self, name: str) -> None:
        expected = self.requests[name]
        known = len(expected.prompt) + len(expected.output)
        assert expected.output[-1] == next_token(
            [*expected.prompt, *expected.output][: known - 1], expected.params
        )
        self.engine.apply(Release(name))
        expected.finish = FinishReason.LENGTH  # no event may follow

    @invariant()
    def books_balance(self) -> None:
        if hasattr(self, "engine"):
            self.engine.audit()
            assert self.runner.largest_step_tokens <= self.step_tokens_max
            assert self.draft.largest_step_tokens <= self.token_budget

    @invariant()
    def what_a_sender_would_read_is_there(self) -> None:
        for name, expected in getattr(self, "requests", {}).items():
            event = expected.progress
            if event is None or expected.finish is not None or name in self.cancelled:
                continue
            tokens = [*expected.prompt, *expected.output][: event.computed_tokens]
            for position in range(event.computed_tokens):
                held = self.runner.cell(event.block_table, position)
                assert held == prefix_hash(tokens[: position + 1])

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        for _ in range(STEPS_MAX):
            for name in self.awaiting():
                self.requests[name].reserved = None
                self.engine.apply(KvLost(name))
            for name in self.held():
                self.let_go(name)
            if not self.engine.has_work():
                break
            self.step()
            self.engine.audit()
        assert not self.alive(), "requests that never end"
        assert self.engine.step().load.blocks_used == 0
