"""The whole CUDA runner on Triton's interpreter and the fake device, against the CPU runner: the
same tokens through graphs and pipelining, hand-off and failures included."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pytest
from baton.engine.batch import BatchSlice, KvStore, Launcher, Runner, SampleRequest, StepBatch
from baton.engine.blocks import BlockPool
from baton.engine.cuda import build
from baton.engine.cuda.build import CudaParts, RunnerSpec, build_cuda_runner
from baton.engine.cuda.runner import OUT_OF_MEMORY
from baton.engine.engine import Engine
from baton.engine.failure import NOT_FINITE
from baton.engine.messages import Submit, Tokens
from baton.engine.params import FinishReason, SamplingParams, TokenSample
from baton.engine.plan import KvIdentity, SchedulerLimits
from baton.engine.quant.quantization import Quantization
from baton.engine.scheduler import Scheduler
from baton.engine.weights.random_weights import RandomWeights
from baton.model.config import Family, ModelConfig
from support.fake_device import FakeDevice
from support.random_model import POISON_TOKEN, PoisonedWeights, random_runner
from support.runner_steps import GREEDY, Job, run_jobs

BLOCK_SIZE = 16
BLOCKS = 12
QWEN3 = ModelConfig(
    family=Family.QWEN3,
    vocab_size=211,
    hidden_size=64,
    intermediate_size=96,
    layers=2,
    heads=4,
    kv_heads=2,
    head_size=32,
    context_length=128,
    rms_norm_eps=1e-6,
    rope_theta=10_000.0,
    qk_norm=True,
)
LLAMA = replace(
    QWEN3,
    family=Family.LLAMA,
    layers=1,
    qk_norm=False,
    tied_embeddings=True,
    qkv_bias=True,
    sliding_window=4,
    sliding_layers=(0,),
)
PROMPTS = [[7 * i % 200 for i in range(1, 18)], [9, 8, 7]]


def device_parts(
    config: ModelConfig,
    device: FakeDevice,
    *,
    quantization: Quantization = Quantization.NONE,
    kv_dtype: str = "float32",
    rows_max: int = 8,
    sequences_max: int = 2,
    poisoned: bool = False,
) -> CudaParts:
    spec = RunnerSpec(
        quantization=quantization,
        kv_dtype=kv_dtype,
        block_size=BLOCK_SIZE,
        rows_max=rows_max,
        sequences_max=sequences_max,
        memory_fraction=0.9,
    )
    source = RandomWeights(config, seed=1)
    weights = PoisonedWeights(source) if poisoned else source
    return build_cuda_runner(weights, config, spec, device, lambda what, done, wanted: None)


class World:
    """Both runners over the same weights, in which one token is poison."""

    def __init__(self) -> None:
        self.device = FakeDevice()
        self.parts = device_parts(QWEN3, self.device, poisoned=True)
        self.runner = self.parts.runner
        self.cpu = random_runner(QWEN3, block_size=BLOCK_SIZE, block_count=BLOCKS, poisoned=True)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def new_engine(runner: Runner, kv: KvStore, launcher: Launcher | None = None) -> Engine:
    """Of two seats."""
    pool = BlockPool(BLOCKS, BLOCK_SIZE)
    limits = SchedulerLimits(8, 2, QWEN3.context_length)
    scheduler = Scheduler(limits, pool, KvIdentity("tiny", "float32"), (0,))
    return Engine(scheduler, pool, runner, kv, launcher)


def heard(engine: Engine) -> list[Tokens]:
    """One turn of an engine whose books balance."""
    events = engine.step().events
    engine.audit()
    return [event for event in events if isinstance(event, Tokens)]


def told(engine: Engine, submits: Sequence[Submit]) -> dict[str, list[TokenSample]]:
    """What each request answers."""
    for submit in submits:
        engine.apply(submit)
    answers: dict[str, list[TokenSample]] = defaultdict(list)
    while engine.has_work():
        for event in heard(engine):
            assert event.finish in (None, FinishReason.LENGTH, FinishReason.STOP), event.error
            answers[event.request_id] += event.tokens
    return answers


def test_a_pipelined_engine_says_what_an_engine_on_the_processor_says(world: World) -> None:
    submits = [
        Submit("greedy", tuple(PROMPTS[0]), SamplingParams(5, temperature=0.0)),
        Submit("drawn", tuple(PROMPTS[1]), SamplingParams(4, top_p=0.9, top_k=50, seed=7)),
        Submit("scored", (5, 6), SamplingParams(2, temperature=0.0, logprobs=2)),
    ]
    expected = told(new_engine(world.cpu, world.cpu.cache), submits)
    found = told(new_engine(world.runner, world.parts.kv, world.runner), submits)
    assert found.keys() == expected.keys()
    for name, samples in expected.items():
        assert [s.token_id for s in found[name]] == [s.token_id for s in samples], name
    for there, here in zip(found["scored"], expected["scored"], strict=True):
        assert there.logprob == pytest.approx(here.logprob, abs=1e-4)
        assert [top.token_id for top in there.top] == [top.token_id for top in here.top]
    assert world.device.replayed > 0


def test_every_request_of_the_largest_graph_has_logits_of_its_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few rows of logits a step would have at once otherwise."""
    monkeypatch.setattr(build, "SAMPLES_MAX", 2)
    device = FakeDevice()
    runner = device_parts(QWEN3, device, poisoned=True, sequences_max=4).runner

    def jobs() -> list[Job]:
        return [Job([20 + row], [row], 2) for row in range(4)]

    assert run_jobs(runner, jobs()) == run_jobs(world.cpu, jobs())
    assert device.replayed > 0


def test_guesses_are_kept_as_far_as_they_are_right(world: World) -> None:
    right = run_jobs(world.cpu, [Job(PROMPTS[1], [0, 1], 4)])[0]
    for guesses, kept in ((right[1:3], 3), ([right[1], 0], 2)):
        run_jobs(world.runner, [Job(PROMPTS[1], [3, 4], 1)])  # its KV is there
        known = (*PROMPTS[1], right[0])
        sample = SampleRequest(GREEDY, PROMPTS[1], right[:1], ())
        piece = BatchSlice(
            "r", (right[0], *guesses), len(known) - 1, [3, 4], sample, guesses=len(guesses)
        )
        (result,) = world.runner.run(StepBatch((piece,)))
        assert [token.token_id for token in result.samples] == right[1 : 1 + kept]


def test_prompt_logprobs_are_those_of_the_processor(world: World) -> None:
    prompt = PROMPTS[1]
    piece = BatchSlice("r", prompt, 0, [0], None, prompt_logprobs=1, next_token_ids=prompt[1:])
    (there,), (here,) = (r.run(StepBatch((piece,))) for r in (world.runner, world.cpu))
    assert len(there.prompt_logprobs) == len(prompt) - 1
    for found, expected in zip(there.prompt_logprobs, here.prompt_logprobs, strict=True):
        assert found.token_id == expected.token_id
        assert found.logprob == pytest.approx(expected.logprob, abs=1e-4)


def test_a_row_that_is_not_finite_fails_alone(world: World) -> None:
    slices = []
    for name, token, block in (("bad", POISON_TOKEN, 1), ("good", 9, 2)):
        sample = SampleRequest(GREEDY, (token,), (), ())
        slices.append(BatchSlice(name, (token,), 0, [block], sample))
    bad, good = world.runner.run(StepBatch(tuple(slices)))
    assert bad.error == NOT_FINITE
    assert not bad.samples
    (expected,) = world.cpu.run(StepBatch((slices[1],)))
    assert good == expected


def test_a_step_without_memory_fails_its_requests_and_the_next_step_runs(world: World) -> None:
    sample = SampleRequest(GREEDY, (4,), (), ())
    batch = StepBatch((BatchSlice("r", (4,), 0, [5], sample),))
    released = world.device.released
    world.device.run_out_of_memory = True
    (failed,) = world.runner.run(batch)
    assert failed.error == OUT_OF_MEMORY
    assert world.device.released == released + 1
    assert world.runner.run(batch) == world.cpu.run(batch)


def test_a_pipelined_engine_outlives_a_step_without_memory(world: World) -> None:
    engine = new_engine(world.runner, world.parts.kv, world.runner)
    engine.apply(Submit("hit", (2, 3), SamplingParams(9, temperature=0.0)))
    while not heard(engine):
        pass
    world.device.run_out_of_memory = True  # the step launched next, behind one under way
    ends: list[Tokens] = []
    while engine.has_work():
        ends += [event for event in heard(engine) if event.finish is not None]
    (end,) = ends
    assert (end.finish, end.error) == (FinishReason.ERROR, OUT_OF_MEMORY)
    later = [Submit("later", (4, 5), SamplingParams(2, temperature=0.0))]
    assert told(engine, later) == told(new_engine(world.cpu, world.cpu.cache), later)


def test_blocks_from_the_processor_continue_the_same_text(world: World) -> None:
    (whole,) = run_jobs(world.cpu, [Job(PROMPTS[0], [0, 1], 4)])
    first = Job(PROMPTS[0], [2, 3], 1)
    run_jobs(world.cpu, [first])
    there = [11, 6]
    world.parts.kv.write_blocks(there, world.cpu.cache.read_blocks([2, 3]))
    going_on = Job(PROMPTS[0], there, 4, computed=len(PROMPTS[0]), samples=first.samples)
    assert run_jobs(world.runner, [going_on]) == [whole]


def test_windows_biases_and_tied_heads_change_nothing() -> None:
    runner = device_parts(LLAMA, FakeDevice(), rows_max=4).runner
    cpu = random_runner(LLAMA, block_size=BLOCK_SIZE)

    def jobs() -> list[Job]:
        return [Job(PROMPTS[0][:6], [4], 3, chunk=2), Job(PROMPTS[1], [2], 2, chunk=2)]

    assert run_jobs(runner, jobs()) == run_jobs(cpu, jobs())


@pytest.mark.parametrize(
    ("quantization", "kv_dtype"),
    [(Quantization.FP8, "fp8"), (Quantization.INT8, "int8"), (Quantization.BF16, "bfloat16")],
    ids=["fp8", "int8", "bf16"],
)
def test_rounded_schemes_stay_near(quantization: Quantization, kv_dtype: str) -> None:
    config = replace(LLAMA, tied_embeddings=False, sliding_layers=())
    runner = device_parts(
        config,
        FakeDevice(),
        quantization=quantization,
        kv_dtype=kv_dtype,
        rows_max=3,
        sequences_max=1,
    ).runner
    sample = SampleRequest(SamplingParams(1, logprobs=20, temperature=0.0), PROMPTS[1], (), ())
    batch = StepBatch((BatchSlice("r", PROMPTS[1], 0, [3], sample),))
    (found,) = runner.run(batch)
    (exact,) = random_runner(config, block_size=BLOCK_SIZE).run(batch)
    expected = {top.token_id: top.logprob for top in exact.samples[0].top}
    common = [top for top in found.samples[0].top if top.token_id in expected]
    assert len(common) >= 15
    assert all(abs(top.logprob - expected[top.token_id]) < 0.25 for top in common)
