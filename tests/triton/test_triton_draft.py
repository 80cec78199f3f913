"""A draft model beside the one that answers, both on the fake device in Triton's interpreter: the
answers are the processor's without a draft, however good the guesses are."""

from dataclasses import replace

import pytest
from baton.engine.blocks import BlockPool
from baton.engine.cuda.build import CudaParts, DraftModel, RunnerSpec, build_cuda_runner
from baton.engine.cuda.kvcache import kv_block_bytes
from baton.engine.draft import DraftGuesser
from baton.engine.engine import Engine
from baton.engine.messages import Submit, Tokens
from baton.engine.params import SamplingParams
from baton.engine.plan import KvIdentity, SchedulerLimits
from baton.engine.quant.quantization import Quantization
from baton.engine.scheduler import Scheduler
from baton.engine.speculation import Guesser, StepCosts
from baton.engine.weights.random_weights import RandomWeights
from baton.model.config import Family, ModelConfig
from baton_loadtest.local_engine import local_engine
from support.fake_device import FakeDevice
from support.random_model import random_runner

TARGET = ModelConfig(
    family=Family.LLAMA,
    vocab_size=97,
    hidden_size=32,
    intermediate_size=48,
    layers=1,
    heads=2,
    kv_heads=1,
    head_size=16,
    context_length=64,
    rms_norm_eps=1e-6,
    rope_theta=10_000.0,
)
OTHER = replace(TARGET, head_size=32, context_length=16)
SPEC = RunnerSpec(
    quantization=Quantization.NONE,
    kv_dtype="float32",
    block_size=16,
    rows_max=8,
    sequences_max=3,
    memory_fraction=0.9,
)
CHEAP_ROWS = StepCosts(base_s=0.010, row_s=0.0001)
SUBMITS = (
    Submit("greedy", (5, 9, 30, 7, 2, 11), SamplingParams(12, temperature=0.0)),
    Submit("drawn", (8,), SamplingParams(12, top_p=0.9, seed=7)),
    Submit("penalised", (3, 4), SamplingParams(4, seed=2, frequency_penalty=0.4)),
)


def new_device() -> FakeDevice:
    """A worker finds 1 MiB for blocks on it: the interpreter copies all of them at every launch."""
    return FakeDevice(free_bytes=257 * 2**20)


def parts_with(draft: ModelConfig, seed: int, device: FakeDevice) -> CudaParts:
    return build_cuda_runner(
        RandomWeights(TARGET, 1),
        TARGET,
        SPEC,
        device,
        lambda *_: None,
        DraftModel(RandomWeights(draft, seed), draft, "float32"),
    )


def engine_over(parts: CudaParts) -> Engine:
    assert parts.draft is not None
    guesser: Guesser = DraftGuesser(
        parts.draft,
        lambda: CHEAP_ROWS,
        guesses_max=3,
        guess_share=0.1,
        step_tokens_max=SPEC.rows_max,
        eos_token_ids=(),
    )
    pool = BlockPool(8, SPEC.block_size)
    limits = SchedulerLimits(SPEC.rows_max, SPEC.sequences_max, TARGET.context_length)
    scheduler = Scheduler(limits, pool, KvIdentity("tiny", "float32"), (), guesser)
    return Engine(scheduler, pool, parts.runner, parts.kv, parts.runner)


def told(engine: Engine, starved: FakeDevice | None = None) -> dict[str, list[int]]:
    """What each request answers. `starved` has no memory for the draft's step after the first."""
    for submit in SUBMITS:
        engine.apply(submit)
    answers: dict[str, list[int]] = {submit.request_id: [] for submit in SUBMITS}
    while engine.has_work():
        report = engine.step()
        if starved is not None and report.load.guesses_made:
            starved.run_out_of_memory, starved = True, None
        for event in report.events:
            assert isinstance(event, Tokens)
            assert event.error is None
            answers[event.request_id] += [token.token_id for token in event.tokens]
        engine.audit()
    return answers


@pytest.fixture(scope="module")
def expected() -> dict[str, list[int]]:
    return told(local_engine(random_runner(TARGET, block_size=SPEC.block_size)))


def test_a_perfect_draft_is_right_every_time_greedy_or_drawn(
    expected: dict[str, list[int]],
) -> None:
    device = new_device()
    engine = engine_over(parts_with(TARGET, seed=1, device=device))
    released = device.released
    # a draft step without memory costs guesses, and no request
    assert told(engine, starved=device) == expected
    assert device.released == released + 1
    load = engine.step().load
    assert load.guesses_accepted == load.guesses_made > 8


def test_a_draft_of_another_shape_and_a_shorter_context_changes_no_token(
    expected: dict[str, list[int]],
) -> None:
    device = new_device()
    parts = parts_with(OTHER, seed=5, device=device)
    shared = sum(
        kv_block_bytes(config, block_size=SPEC.block_size, dtype="float32")
        for config in (TARGET, OTHER)
    )
    assert parts.block_count == 2**20 // shared
    engine = engine_over(parts)
    assert told(engine) == expected
    assert engine.step().load.guesses_made > 0
