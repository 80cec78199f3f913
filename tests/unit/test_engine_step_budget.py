"""How many tokens a step takes, and of how many prompts."""

import pytest
from baton.engine.batch import SliceResult
from baton.engine.blocks import BlockPool
from baton.engine.messages import Submit
from baton.engine.params import SamplingParams, TokenSample
from baton.engine.plan import KvIdentity, SchedulerLimits
from baton.engine.scheduler import Scheduler


@pytest.mark.parametrize(
    ("decoding", "prompt_tokens", "tokens"),
    [
        (1, 0, 128),
        (3, 100, 128),
        (31, 256, 287),  # the decodes, and a prompt in one step
        (64, 4_096, 512),
        (1, 1_000_000, 512),
        (0, 1_000_000, 128),  # nobody's decode goes along
    ],
)
def test_the_budget_of_a_step_follows_the_prompts_in_it(
    decoding: int, prompt_tokens: int, tokens: int
) -> None:
    limits = SchedulerLimits(128, 64, 8_192, backlog_budget=512)
    assert limits.step_budget(decoding, prompt_tokens) == tokens


def test_prompts_go_side_by_side_where_no_decode_goes_along() -> None:
    limits = SchedulerLimits(8, 4, 64, backlog_budget=24, prompts_together=2)
    scheduler = Scheduler(limits, BlockPool(64, 4), KvIdentity("tiny", "float32"), ())
    for salt, (name, length) in enumerate((("a", 20), ("b", 10), ("c", 10), ("d", 10))):
        prompt = tuple(range(100 * salt, 100 * salt + length))
        scheduler.submit(Submit(name, prompt, SamplingParams(max_tokens=1), export=True))
    steps = []
    while planned := scheduler.plan():
        steps.append([(piece.request.request_id, piece.length) for piece in planned])
        scheduler.ahead.launch(planned)
        drawn = SliceResult((TokenSample(7),))
        scheduler.commit(planned, [drawn if it.samples else SliceResult() for it in planned])
    assert steps == [
        [("a", 8), ("b", 8)],
        [("a", 8), ("b", 2), ("c", 6)],
        [("a", 4), ("c", 4), ("d", 8)],
        [("d", 2)],
    ]


def test_without_a_larger_budget_prompts_change_nothing() -> None:
    assert SchedulerLimits(128, 64, 8_192).step_budget(1, 1_000_000) == 128
