"""The engine in this process, without workers and HTTP: for commands that look at it closely.

Knows how an engine is put together; knows nothing of what is asked of it.
"""

from collections.abc import Sequence

from baton.engine.blocks import BlockPool
from baton.engine.devices import DeviceChoice
from baton.engine.engine import Engine
from baton.engine.messages import Submit, Tokens
from baton.engine.params import SamplingParams
from baton.engine.plan import KvIdentity, SchedulerLimits
from baton.engine.runner import CpuRunner
from baton.engine.scheduler import Scheduler
from baton.engine.speculation import Guesser
from baton.worker.settings import BACKLOG_STEP_TOKENS, STEP_TOKENS

SEQUENCES_MAX = 64


def local_engine(runner: CpuRunner, guesser: Guesser | None = None) -> Engine:
    """An idle engine over the runner's cache. Requests end at their length, never at a token.

    Its prefix cache begins empty: of one runner, only the newest engine may be used.
    """
    cache = runner.cache
    limits = SchedulerLimits(
        # a worker's own: a step's make-up should be what serving makes of it
        token_budget=STEP_TOKENS[DeviceChoice.CPU],
        backlog_budget=BACKLOG_STEP_TOKENS[DeviceChoice.CPU],
        sequences_max=SEQUENCES_MAX,
        context_length_max=cache.block_count * cache.block_size,
    )
    pool = BlockPool(cache.block_count, cache.block_size)
    scheduler = Scheduler(limits, pool, KvIdentity("local", str(cache.dtype)), (), guesser)
    return Engine(scheduler, pool, runner, cache)


def greedy(engine: Engine, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
    """The likeliest continuation of each prompt, `tokens` long; all share the batch."""
    outputs: dict[str, list[int]] = {}
    params = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
    for number, prompt in enumerate(prompts):
        outputs[str(number)] = []
        engine.apply(Submit(str(number), tuple(prompt), params))
    while engine.has_work():
        for event in engine.step().events:
            if isinstance(event, Tokens):
                outputs[event.request_id] += [sample.token_id for sample in event.tokens]
    return list(outputs.values())
