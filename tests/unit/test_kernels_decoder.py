"""The decoder on the kernels: it agrees with torch's, and a row's bits depend on nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from baton.common.errors import EngineFailure
from baton.engine.batch import BatchSlice, SampleRequest, StepBatch
from baton.engine.kernels.selection import SCHEMES
from baton.engine.models.native import NativeDecoder
from baton.engine.models.step_model import build_step_model
from baton.engine.models.steps import Rows, StepModel, best_tokens
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import Quantization
from baton.engine.runner import CpuRunner, empty_cache
from baton.engine.weights.random_weights import RandomWeights
from baton.model.config import Family, LinearRopeScaling, ModelConfig
from numpy.linalg import norm
from support.kernels import kernels
from support.random_model import CONFIG, POISON_TOKEN, WINDOWED, random_runner
from support.runner_steps import GREEDY, Job, run_jobs, shuffled_tables

BLOCK_SIZE, BLOCK_COUNT = 16, 64
TOKENS = [7 * i % 200 for i in range(300)]
TABLE = list(range(63, 63 - 20, -1))
CONFIGS = {
    "qwen3": CONFIG,
    "windowed": WINDOWED,
    "llama-bias": ModelConfig(
        family=Family.LLAMA,
        vocab_size=203,
        hidden_size=72,
        intermediate_size=100,
        layers=2,
        heads=4,
        kv_heads=4,
        head_size=24,
        context_length=1024,
        rms_norm_eps=1e-5,
        rope_theta=10_000.0,
        rope_scaling=LinearRopeScaling(2.0),
        tied_embeddings=True,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
    ),
    "whole-registers": replace(CONFIG, hidden_size=64, intermediate_size=128, head_size=64),
    "tied-wide": replace(CONFIG, head_size=80, kv_heads=1, tied_embeddings=True),
}
# Size of the difference, relative to the rows'. Of 8 bits it is a level here and there, where the
# two ways' last bits fall on either side of a border; torch rounds bfloat16 products once more,
# and of 4 bits the scales too.
TOLERANCES = {
    (Quantization.NONE, KvCacheDtype.AUTO): 1e-5,
    (Quantization.BF16, KvCacheDtype.AUTO): 1e-2,
    (Quantization.INT8, KvCacheDtype.BFLOAT16): 2e-2,
    (Quantization.INT8_WEIGHT_ONLY, KvCacheDtype.AUTO): 1e-2,
    (Quantization.INT4_WEIGHT_ONLY, KvCacheDtype.AUTO): 2e-2,
    (Quantization.INT4, KvCacheDtype.BFLOAT16): 2e-2,
    (Quantization.NONE, KvCacheDtype.INT8): 2e-3,
    (Quantization.INT8, KvCacheDtype.INT8): 2e-2,
}
every_scheme = pytest.mark.parametrize("quantization", SCHEMES)
every_pair = pytest.mark.parametrize(("quantization", "kv"), TOLERANCES)
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def native(config: ModelConfig, quantization: Quantization, threads: int = 1) -> StepModel:
    return build_step_model(
        RandomWeights(config, 1), config, quantization, library=kernels(), threads=threads
    )


def on_torch(config: ModelConfig, quantization: Quantization) -> StepModel:
    return build_step_model(RandomWeights(config, 1), config, quantization, library=None, threads=1)


def hidden_rows(
    model: StepModel,
    quantization: Quantization,
    kv: KvCacheDtype = KvCacheDtype.AUTO,
    chunk: int = 300,
    company: int = 0,
) -> Rows:
    """[300, hidden] of TOKENS in chunks, `company` other sequences in every step."""
    if kv is KvCacheDtype.INT8 and model.config.head_size % 16:
        pytest.skip("8-bit KV is for heads of whole vectors")
    cache = empty_cache(model.config, quantization, BLOCK_COUNT, BLOCK_SIZE, kv)
    found = []
    for start in range(0, len(TOKENS), chunk):
        others = [BatchSlice(str(i), [i + 1] * (i + 1), 0, [i]) for i in range(company)]
        piece = BatchSlice("a", TOKENS[start : start + chunk], start, TABLE)
        rows = model.compute([*others, piece], cache)
        first = rows.firsts[-1]
        found.append(rows.hidden[first : first + len(piece.token_ids)].copy())
    return np.concatenate(found)


@every_config
@every_pair
def test_hidden_rows_and_logits_are_those_of_torch(
    config: ModelConfig, quantization: Quantization, kv: KvCacheDtype
) -> None:
    ours, theirs = native(config, quantization), on_torch(config, quantization)
    found, expected = (hidden_rows(model, quantization, kv) for model in (ours, theirs))
    assert norm(found - expected) < TOLERANCES[quantization, kv] * norm(expected)
    found, expected = ours.logits(expected), theirs.logits(expected)
    assert norm(found - expected) < TOLERANCES[quantization, kv] * norm(expected)


@every_config
@every_pair
def test_a_row_has_the_same_bits_in_any_chunk_and_company_on_any_number_of_threads(
    config: ModelConfig, quantization: Quantization, kv: KvCacheDtype
) -> None:
    expected = hidden_rows(native(config, quantization), quantization, kv)
    for chunk, company, threads in ((1, 3, 1), (300, 2, 3), (37, 0, 1), (64, 4, 2), (1, 0, 2)):
        model = native(config, quantization, threads)
        assert np.array_equal(hidden_rows(model, quantization, kv, chunk, company), expected)
    model = native(config, quantization, threads=3)
    all_rows = model.logits(expected).copy()
    assert np.array_equal(all_rows[40:41], model.logits(expected[40:41]))


@every_config
@every_pair
@pytest.mark.parametrize("threads", [1, 3])
def test_a_step_brings_the_logits_of_the_rows_that_tokens_are_drawn_from(
    config: ModelConfig, quantization: Quantization, kv: KvCacheDtype, threads: int
) -> None:
    """Of few rows and of many; after guesses too; none of a slice that draws nothing."""
    if kv is KvCacheDtype.INT8 and config.head_size % 16:
        pytest.skip("8-bit KV is for heads of whole vectors")
    model, draws = native(config, quantization, threads), SampleRequest(GREEDY, TOKENS, (), ())
    for length in (3, 70, 200):
        tables = shuffled_tables(BLOCK_COUNT, BLOCK_SIZE, (length, length, 5))
        slices = [
            BatchSlice("a", TOKENS[:length], 0, tables[0], draws),
            BatchSlice("b", TOKENS[:length], 0, tables[1]),
            BatchSlice("c", TOKENS[:5], 0, tables[2], draws, guesses=2),
        ]
        cache = empty_cache(config, quantization, BLOCK_COUNT, BLOCK_SIZE, kv)
        rows = model.compute(slices, cache)
        assert [*rows.firsts] == [0, length, 2 * length]
        drawn = [length - 1, *range(2 * length + 2, 2 * length + 5)]
        found, best = rows.logits.copy(), best_tokens(rows.logits)
        assert [*rows.best.token_ids] == [*best.token_ids]
        assert all(rows.best.finite)
        assert np.array_equal(found, model.logits(rows.hidden[drawn]))


@every_config
@every_pair
def test_prompts_side_by_side_have_the_bits_that_each_has_alone(
    config: ModelConfig, quantization: Quantization, kv: KvCacheDtype
) -> None:
    """Alike or not, few blocks of rows or many, more or fewer prompts than threads."""
    expected = hidden_rows(native(config, quantization), quantization, kv)
    for lengths, threads in (
        ((150, 150), 2),
        ((300, 290, 280), 3),
        ((70, 60, 70, 60), 2),
        ((200, 100), 2),
        ((140, 1, 139), 2),
        ((300, 300), 1),
    ):
        cache = empty_cache(config, quantization, BLOCK_COUNT, BLOCK_SIZE, kv)
        tables = shuffled_tables(BLOCK_COUNT, BLOCK_SIZE, lengths)
        slices = [
            BatchSlice(str(i), TOKENS[:length], 0, table)
            for i, (length, table) in enumerate(zip(lengths, tables, strict=True))
        ]
        rows = native(config, quantization, threads).compute(slices, cache)
        for first, length in zip(rows.firsts, lengths, strict=True):
            assert np.array_equal(rows.hidden[first : first + length], expected[:length])


@every_pair
def test_the_runner_gives_the_same_text_whatever_shares_its_steps(
    quantization: Quantization, kv: KvCacheDtype
) -> None:
    prompts = [TOKENS[:19], [3], TOKENS[50:90], [9, 8, 7]]

    def jobs(chunk: int, stagger: int) -> list[Job]:
        tables = shuffled_tables(64, BLOCK_SIZE, [len(prompt) + 6 for prompt in prompts])
        return [
            Job(list(prompt), table, 6, chunk, stagger * index, GREEDY)
            for index, (prompt, table) in enumerate(zip(prompts, tables, strict=True))
        ]

    def runner(threads: int) -> CpuRunner:
        return random_runner(
            quantization=quantization,
            kv=kv,
            block_size=BLOCK_SIZE,
            library=kernels(),
            threads=threads,
        )

    solo = [run_jobs(runner(1), [job])[0] for job in jobs(10_000, 0)]
    for chunk, stagger in ((10_000, 0), (4, 0), (3, 2)):
        assert run_jobs(runner(2), jobs(chunk, stagger)) == solo


@every_scheme
def test_a_row_of_nan_fails_its_own_request_only(quantization: Quantization) -> None:
    runner = random_runner(quantization=quantization, library=kernels(), poisoned=True)
    prompts = {"bad": [1, POISON_TOKEN, 2], "good": [3, 1, 2]}
    slices = [
        BatchSlice(name, prompt, 0, [index], SampleRequest(GREEDY, prompt, (), ()))
        for index, (name, prompt) in enumerate(prompts.items())
    ]
    bad, good = runner.run(StepBatch(tuple(slices)))
    assert bad.samples == ()
    assert bad.error is not None
    healthy = random_runner(quantization=quantization, library=kernels())
    assert healthy.run(StepBatch((slices[1],)))[0].samples == good.samples != ()


@pytest.mark.parametrize(
    ("piece", "says"),
    [
        (BatchSlice("a", [211], 0, [0]), "not in the vocabulary"),
        (BatchSlice("a", [-1], 0, [0]), "not in the vocabulary"),
        (BatchSlice("a", [1], 0, [64]), "not in the cache"),
        (BatchSlice("a", [1], 0, [-1]), "not in the cache"),
        (BatchSlice("a", [1] * 5, 0, [0]), "shorter than its slice"),
        (BatchSlice("a", [1], 4, [0]), "shorter than its slice"),
        (BatchSlice("a", [], 0, [0]), "no rows"),
    ],
)
def test_the_kernels_never_see_ids_out_of_range(piece: BatchSlice, says: str) -> None:
    with pytest.raises(EngineFailure, match=says):
        random_runner(library=kernels()).run(StepBatch((piece,)))


def test_the_time_of_steps_is_told_by_part() -> None:
    model = native(CONFIG, Quantization.INT8)
    assert isinstance(model, NativeDecoder)
    assert model.time_spent == (0, 0, 0)
    hidden_rows(model, Quantization.INT8)
    once = model.time_spent
    hidden_rows(model, Quantization.INT8)
    assert all(0 < first < then for first, then in zip(once, model.time_spent, strict=True))
