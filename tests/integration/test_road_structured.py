"""Answers held to a grammar: the same on every path of the road, and JSON whatever happens to them.

The models have random weights: what makes JSON of their noise is the grammar alone.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from baton.engine.failure import NOTHING_FITS
from baton.engine.kernels.selection import KERNELS_FOLDER
from baton.engine.params import FinishReason, SamplingParams
from baton.engine.quant.quantization import Quantization
from baton.engine.runner import build_runner
from baton.engine.speculation import Speculation
from baton.model.card import read_config
from baton.model.fetch import LocalModel
from baton.model.grammar_text import schema_grammar
from baton.model.tokenizer import load_tokenizer
from baton.worker.constraints import Constraints
from support.random_json import SCHEMAS, require_valid, text_of
from support.road import CACHE_DIR, Answer, open_road
from support.runner_steps import Job, run_jobs, shuffled_tables
from support.tiny_models import tiny_model

PERSON = schema_grammar(SCHEMAS["person"], strict=True)
LISTS = {
    "type": "array",
    "items": {"type": "string", "maxLength": 5},
    "minItems": 14,
    "maxItems": 14,
}
PARAMS = SamplingParams(max_tokens=200, temperature=0.0, grammar=PERSON)
DRAWN = replace(PARAMS, temperature=1.2, seed=7)


def prompt(length: int, salt: int = 0) -> list[int]:
    """Any ids of the tiny vocabulary but the special ones."""
    return [3 + (salt * 101 + index * index * 7 + index * 13) % 290 for index in range(length)]


def text(model: LocalModel, answer: Answer) -> str:
    assert answer.error == ""
    assert answer.finish == FinishReason.STOP
    return text_of(load_tokenizer(model), answer.tokens[:-1])  # the last one is the end


@pytest.mark.parametrize("params", [PARAMS, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("chunk", [16, 13, 512], ids=["one-block", "odd", "whole"])
async def test_every_path_says_the_same_json(
    chunk: int, params: SamplingParams, tmp_path: Path
) -> None:
    model = tiny_model("llama", tmp_path)
    async with open_road(model, prefill=1, decode=2, step_tokens_max=chunk) as road:
        local = await road.ask(prompt(51), params, decode=0, prefill=None)
        remote = await road.ask(prompt(51), params, decode=1)
        again = await road.ask(prompt(51), params, decode=1)
        assert (local.path, remote.path, again.path) == (
            "local:no_prefill",
            "remote",
            "local:cached",
        )
        assert local.tokens == remote.tokens == again.tokens
        require_valid(text(model, local), SCHEMAS["person"])


async def test_an_answer_that_moves_on_keeps_its_place_in_the_grammar(tmp_path: Path) -> None:
    """What other servers lose: after a worker died, the grammar began anew."""
    model = tiny_model("qwen3", tmp_path)
    async with open_road(model, prefill=1, decode=2) as road:
        whole = await road.ask(prompt(40), DRAWN, decode=0, prefill=None)
        require_valid(text(model, whole), SCHEMAS["person"])
        for spent in (1, 5, len(whole.tokens) - 1):
            for prefill in (0, None):
                rest = await road.ask(
                    prompt(40), DRAWN, decode=1, prefill=prefill, output=whole.tokens[:spent]
                )
                assert rest.tokens == whole.tokens[spent:]


async def test_an_output_that_is_not_the_grammars_ends_its_request_alone(tmp_path: Path) -> None:
    model = tiny_model("llama", tmp_path)
    async with open_road(model, prefill=0) as road:
        foreign = await road.ask(prompt(20), PARAMS, prefill=None, output=[5, 6, 7])
        assert (foreign.error, foreign.code) == (NOTHING_FITS, "invalid_request")
        fine = await road.ask(prompt(20), PARAMS, prefill=None)
        require_valid(text(model, fine), SCHEMAS["person"])


@pytest.mark.parametrize("prefill", [None, 0], ids=["aggregated", "hand-off"])
async def test_a_grammar_that_a_worker_cannot_read_is_refused(
    prefill: int | None, tmp_path: Path
) -> None:
    """No router sends one; a foreign one might."""
    model = tiny_model("llama", tmp_path)
    async with open_road(model) as road:
        refused = await road.ask(
            prompt(20), replace(PARAMS, grammar="start: nowhere"), prefill=prefill
        )
        assert "nowhere" in refused.error
        fine = await road.ask(prompt(20), PARAMS, prefill=prefill)
        require_valid(text(model, fine), SCHEMAS["person"])


async def test_neither_company_nor_preemption_changes_a_token(tmp_path: Path) -> None:
    model = tiny_model("llama", tmp_path)
    params = replace(DRAWN, grammar=schema_grammar(LISTS, strict=True))
    free = replace(params, grammar=None, max_tokens=60, ignore_eos=True)
    async with open_road(model, decode=2, decode_blocks=14) as road:
        alone = [
            await road.ask(prompt(30, salt), params, decode=1, prefill=None) for salt in range(3)
        ]
        crowd = [await road.start(prompt(30, salt), params, prefill=None) for salt in range(3)]
        beside = await road.start(prompt(30, 9), free, prefill=None)
        for answer in (*crowd, beside):
            await answer.done.wait()
        assert road.decode[0].load.preemptions > 0
    assert len(beside.tokens) == 60
    for answer, lone in zip(crowd, alone, strict=True):
        assert answer.tokens == lone.tokens
        require_valid(text(model, answer), LISTS)


def one_by_one(model: LocalModel, prompts: list[list[int]], grammar: str) -> list[list[int]]:
    """What a runner says that is asked for a token at a time, without an engine."""
    config = read_config(model)
    runner = build_runner(
        model,
        config,
        quantization=Quantization.NONE,
        block_count=64,
        block_size=16,
        threads=1,
        kernel_cache_dir=CACHE_DIR / KERNELS_FOLDER,
    )
    constraints = Constraints(model, vocab_size=config.vocab_size)
    ends = load_tokenizer(model).eos_token_ids
    outputs = []
    for tokens in prompts:
        (table,) = shuffled_tables(64, 16, [len(tokens) + 200])
        job = Job(tokens, table, constraint=constraints.of(grammar))
        while not (job.output and job.output[-1] in ends):
            job.tokens = len(job.output) + 1
            run_jobs(runner, [job])
        outputs.append(job.output)
    return outputs


@pytest.mark.parametrize(
    "speculation", [Speculation.NONE, Speculation.PROMPT_LOOKUP, Speculation.DRAFT_MODEL]
)
async def test_guessing_ahead_changes_no_token(speculation: Speculation, tmp_path: Path) -> None:
    """What the grammar makes certain is guessed in any case."""
    model = tiny_model("llama", tmp_path)
    draft = model if speculation is Speculation.DRAFT_MODEL else None
    prompts = [prompt(30, salt) for salt in range(3)]
    grammar = schema_grammar(SCHEMAS["person"], strict=True)
    plain = one_by_one(model, prompts, grammar)
    params = replace(PARAMS, grammar=grammar)
    async with open_road(model, speculation=speculation, draft=draft) as road:
        guessed = [await road.ask(tokens, params) for tokens in prompts]
        load = road.decode[0].load
    assert [answer.tokens for answer in guessed] == plain
    assert load.guesses_accepted > 0.9 * load.guesses_made
    assert load.step < 0.8 * sum(len(tokens) for tokens in plain)
    require_valid(text(model, guessed[0]), SCHEMAS["person"])
