"""An engine over the fake runner, its books checked after every step."""

from baton.engine.blocks import BlockPool
from baton.engine.engine import Engine
from baton.engine.messages import Progress, Reserved, Submit, Tokens
from baton.engine.params import SamplingParams
from baton.engine.plan import KvIdentity, SchedulerLimits
from baton.engine.scheduler import Scheduler

from support.fake_runner import EOS, FakeRunner, solo_output

BLOCK_SIZE = 4


class World:
    """With room for `blocks` blocks."""

    def __init__(
        self,
        blocks: int = 16,
        seats: int = 4,
        budget: int = 16,
        backlog: int = 0,
    ) -> None:
        pool = BlockPool(blocks, BLOCK_SIZE)
        self.capacity = min(64, blocks * BLOCK_SIZE)
        self.scheduler = Scheduler(
            SchedulerLimits(budget, seats, self.capacity, backlog),
            pool,
            KvIdentity("tiny", "float32"),
            (EOS,),
        )
        self.runner = FakeRunner(blocks, BLOCK_SIZE)
        self.engine = Engine(self.scheduler, pool, self.runner, self.runner)

    def submit(
        self,
        name: str,
        prompt: tuple[int, ...],
        *,
        max_tokens: int = 4,
        remote: bool = False,
        export: bool = False,
        priority: int = 0,
    ) -> None:
        params = SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True)
        self.runner.expect(name, prompt)
        self.engine.apply(
            Submit(name, prompt, params, remote=remote, export=export, priority=priority)
        )

    def step(self) -> list[Tokens | Reserved | Progress]:
        events = list(self.engine.step().events)
        self.engine.audit()
        return events

    def finish_all(self) -> dict[str, list[int]]:
        outputs: dict[str, list[int]] = {}
        for _ in range(500):
            for event in self.step():
                if isinstance(event, Tokens):
                    tokens = [token.token_id for token in event.tokens]
                    outputs.setdefault(event.request_id, []).extend(tokens)
            if not self.engine.has_work():
                return outputs
        raise AssertionError("work that never ends")


def prompt(length: int, salt: int = 0) -> tuple[int, ...]:
    return tuple(2 + (salt * 17 + index) % 80 for index in range(length))


def solo(tokens: tuple[int, ...], max_tokens: int = 4, capacity: int = 64) -> list[int]:
    params = SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True)
    return solo_output(tokens, params, capacity)
