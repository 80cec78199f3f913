"""One step of the runner: what it answers, what it leaves alone, and how it fails."""

import pytest
import torch
from baton.common.errors import EngineFailure
from baton.engine.batch import BatchSlice, SampleRequest, StepBatch
from baton.engine.kvside import TorchKv
from baton.engine.params import SamplingParams, TokenSample
from baton.engine.quant.quantization import Quantization
from baton.model.config import ModelConfig
from support.random_model import CONFIG, POISON_TOKEN, WINDOWED, random_runner
from support.runner_steps import GREEDY, Job, run_jobs, shuffled_tables

PROMPTS = [[7 * i % 200 for i in range(1, 20)], [3], list(range(50, 90)), [9, 8, 7]]
SCORED = SamplingParams(max_tokens=99, temperature=0.0, logprobs=3)


def jobs(
    chunk: int = 10_000, tokens: int = 6, stagger: int = 0, params: SamplingParams = GREEDY
) -> list[Job]:
    tables = shuffled_tables(64, 4, [len(prompt) + tokens for prompt in PROMPTS])
    return [
        Job(list(prompt), table, tokens, chunk, stagger * index, params)
        for index, (prompt, table) in enumerate(zip(PROMPTS, tables, strict=True))
    ]


@pytest.mark.parametrize("config", [CONFIG, WINDOWED], ids=["full", "windowed"])
@pytest.mark.parametrize("quantization", [Quantization.NONE, Quantization.INT8])
def test_output_does_not_depend_on_chunks_or_company(
    config: ModelConfig, quantization: Quantization
) -> None:
    def fresh() -> list[list[int]]:
        return [
            run_jobs(random_runner(config, quantization=quantization), [job])[0] for job in jobs()
        ]

    solo = fresh()
    for chunk, stagger in ((10_000, 0), (4, 0), (3, 2), (1, 1)):
        runner = random_runner(config, quantization=quantization)
        assert run_jobs(runner, jobs(chunk, stagger=stagger)) == solo


def test_seeded_draws_do_not_depend_on_chunks_or_company() -> None:
    params = SamplingParams(max_tokens=99, temperature=1.3, top_p=0.9, seed=77)
    solo = [run_jobs(random_runner(), [job])[0] for job in jobs(params=params)]
    assert run_jobs(random_runner(), jobs(3, stagger=2, params=params)) == solo
    other = SamplingParams(max_tokens=99, temperature=1.3, top_p=0.9, seed=78)
    assert run_jobs(random_runner(), jobs(params=other)) != solo


def test_logprobs_do_not_depend_on_chunks_or_company() -> None:
    alone, crowd = jobs(params=SCORED), jobs(3, stagger=1, params=SCORED)
    run_jobs(random_runner(), crowd)
    for lone, crowded in zip(alone, crowd, strict=True):
        run_jobs(random_runner(), [lone])
        for a, b in zip(lone.samples, crowded.samples, strict=True):
            assert a.token_id == b.token_id
            assert a.logprob == pytest.approx(b.logprob, abs=1e-4)


def test_blocks_moved_to_another_runner_continue_the_same_text() -> None:
    (whole,) = run_jobs(random_runner(), [Job(PROMPTS[2], list(range(20)), 12)])
    sender, receiver = random_runner(), random_runner()
    first = Job(PROMPTS[2], list(range(20)), 1)
    run_jobs(sender, [first])
    there = [40, 3, 17, 60, 21, 22, 8, 59, 30, 31, 1, 50, 13]  # other places on the other side
    computed = -(-len(PROMPTS[2]) // 4)
    payload = sender.cache.read_blocks(list(range(computed)))
    receiver.cache.write_blocks(there[:computed], payload)
    rest = Job(PROMPTS[2], there, 12, computed=len(PROMPTS[2]), samples=first.samples)
    assert run_jobs(receiver, [rest]) == [whole]


def test_results_keep_the_order_of_the_batch() -> None:
    runner = random_runner()
    run_jobs(runner, jobs(tokens=1))
    slices = tuple(
        BatchSlice(
            str(i), piece.prompt, 0, piece.table, SampleRequest(GREEDY, piece.prompt, (), ())
        )
        for i, piece in enumerate(jobs(tokens=1))
    )
    forward = [r.samples for r in runner.run(StepBatch(slices))]
    backward = [r.samples for r in runner.run(StepBatch(slices[::-1]))]
    assert forward == backward[::-1]
    assert len({sample.token_id for samples in forward for sample in samples}) > 1


def test_a_slice_that_asks_for_nothing_gets_an_empty_result() -> None:
    (result,) = random_runner().run(StepBatch((BatchSlice("a", [1, 2, 3], 0, [5]),)))
    assert (result.samples, result.prompt_logprobs, result.error) == ((), (), None)
    assert random_runner().run(StepBatch(())) == []


def test_prompt_logprobs_are_those_of_the_tokens_that_follow() -> None:
    runner, prompt = random_runner(), PROMPTS[0]
    whole = runner.run(
        StepBatch((BatchSlice("a", prompt, 0, [9, 4, 2, 7, 1], None, 2, prompt[1:]),))
    )[0]
    assert [s.token_id for s in whole.prompt_logprobs] == prompt[1:]
    assert all(len(s.top) == 2 for s in whole.prompt_logprobs)
    chunked: list[TokenSample] = []
    for start in range(0, len(prompt), 6):
        tokens = prompt[start : start + 6]
        following = prompt[start + 1 : start + 7]
        piece = BatchSlice("a", tokens, start, [9, 4, 2, 7, 1], None, 2, following)
        chunked += runner.run(StepBatch((piece, BatchSlice("b", [5], 0, [20]))))[0].prompt_logprobs
    for a, b in zip(whole.prompt_logprobs, chunked, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
    # the sampled token's own logprob is what the prompt's would be, had it been in the prompt
    job = Job(prompt[:5], [30, 31], 1, params=SCORED)
    run_jobs(runner, [job])
    follows = [*prompt[1:5], job.output[0]]
    (again,) = runner.run(StepBatch((BatchSlice("c", prompt[:5], 0, [32, 33], None, 3, follows),)))
    assert again.prompt_logprobs[-1].logprob == pytest.approx(job.samples[0].logprob, abs=1e-5)
    assert [t.token_id for t in again.prompt_logprobs[-1].top] == [
        t.token_id for t in job.samples[0].top
    ]


def test_a_row_of_nan_fails_its_own_request_only() -> None:
    runner = random_runner(poisoned=True)
    expected = run_jobs(random_runner(poisoned=True), jobs(tokens=1))
    bad_prompt = [POISON_TOKEN, 1, 2, 3]  # every key of block 0 becomes NaN
    slices = [BatchSlice("bad", bad_prompt, 0, [0], SampleRequest(GREEDY, bad_prompt, (), ()))]
    # the good ones use other blocks than the bad one
    tables = [[60, 61, 62, 63, 1], [2], list(range(3, 13)), [14]]
    for prompt, table in zip(PROMPTS, tables, strict=True):
        slices.append(BatchSlice("ok", prompt, 0, table, SampleRequest(GREEDY, prompt, (), ())))
    bad, *good = runner.run(StepBatch(tuple(slices)))
    assert bad.samples == ()
    assert bad.error is not None
    assert [[sample.token_id for sample in r.samples] for r in good] == expected
    # the NaN stay in block 0 until its next owner has filled it, who reads none of them
    heir = Job([3], [0, 1], 3)
    (alone,) = run_jobs(random_runner(poisoned=True), [Job([3], [0, 1], 3)])
    longer = Job(PROMPTS[2], list(range(20, 40)), 3)
    assert run_jobs(runner, [longer, heir])[1] == alone


def test_nan_in_scored_prompt_rows_is_an_error_of_the_slice() -> None:
    prompt = [1, POISON_TOKEN, 2]
    piece = BatchSlice("a", prompt, 0, [0], None, 1, prompt[1:])
    (result,) = random_runner(poisoned=True).run(StepBatch((piece,)))
    assert result.error is not None
    assert result.prompt_logprobs == ()


@pytest.mark.parametrize(
    "piece",
    [BatchSlice("a", [100_000], 0, [0]), BatchSlice("a", [1], 0, [10_000])],
    ids=["token", "block"],
)
def test_what_torch_refuses_is_an_engine_failure(piece: BatchSlice) -> None:
    with pytest.raises(EngineFailure, match="a step of 1 slices failed"):
        random_runner().run(StepBatch((piece,)))


def test_a_step_touches_no_blocks_but_its_own() -> None:
    runner = random_runner()
    foreign = [1, 2, 3]
    before = runner.cache.read_blocks(foreign)
    run_jobs(runner, [Job(PROMPTS[0], [10, 11, 12, 13, 14, 15], 5)])
    assert runner.cache.read_blocks(foreign) == before
    assert torch.count_nonzero(TorchKv(runner.cache).layer(1)[0].read(torch.arange(40, 44))) > 0
