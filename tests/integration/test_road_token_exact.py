"""Token for token what transformers says: computed on decode alone and through the hand-off, with
chunks of one block, of an odd size and of the whole prompt, with cold, partial and full prefix hits
on either side.

Tolerance: log-probabilities within 1e-4 of transformers' (both float32; measured worst on these
models: a few 1e-6 to 1e-5). Greedy margins of the chosen prompts are checked to be far above that.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from baton.engine.params import SamplingParams
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import Quantization
from baton.engine.speculation import Speculation
from support.road import open_road
from support.road_paths import (
    LOGPROB_TOLERANCE,
    Texts,
    check_continuation,
    continued,
    walk_every_path,
)
from support.tiny_models import tiny_model
from support.transformers_oracle import Oracle

COUNT = 24
PARAMS = SamplingParams(max_tokens=COUNT, temperature=0.0, ignore_eos=True, logprobs=5)
FAMILIES = ("llama", "llama3", "mistral", "qwen2", "qwen3")
CHUNKS = {"one-block": 16, "odd": 13, "whole": 512}


def prompt(length: int, salt: int = 0) -> list[int]:
    """Any ids of the tiny vocabulary but the special ones."""
    return [3 + (salt * 101 + index * index * 7 + index * 13) % 290 for index in range(length)]


# 51 tokens: three full blocks and a part. The second shares 32 tokens, two blocks, with the first.
FIRST = prompt(51)
SECOND = FIRST[:32] + prompt(30, salt=5)
WHOLE_BLOCKS = prompt(48, salt=9)
TEXTS = Texts(FIRST, SECOND, WHOLE_BLOCKS, SECOND + prompt(40, salt=3))


@pytest.mark.parametrize("chunk", CHUNKS.values(), ids=CHUNKS.keys())
@pytest.mark.parametrize("family", FAMILIES)
async def test_every_path_says_what_transformers_says(
    family: str, chunk: int, tmp_path: Path
) -> None:
    model = tiny_model(family, tmp_path)
    texts = continued(Oracle(model), TEXTS, COUNT)
    async with open_road(model, prefill=1, decode=3, step_tokens_max=chunk) as road:
        await walk_every_path(road, texts, params=PARAMS)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
async def test_seeded_sampling_draws_the_same_on_every_path(family: str, tmp_path: Path) -> None:
    model = tiny_model(family, tmp_path)
    params = SamplingParams(
        max_tokens=COUNT,
        temperature=1.1,
        top_p=0.95,
        top_k=60,
        presence_penalty=0.3,
        frequency_penalty=0.2,
        repetition_penalty=1.1,
        seed=2**63 + 17,
        ignore_eos=True,
    )
    async with open_road(model, prefill=1, decode=2) as road:
        local = await road.ask(FIRST, params, decode=0, prefill=None)
        remote = await road.ask(FIRST, params, decode=1)
        assert remote.path == "remote"
        assert len(local.tokens) == COUNT
        assert remote.tokens == local.tokens
        # A request that moves on with part of its output goes on as if nothing had happened.
        for spent in (1, 7):
            for prefill in (0, None):
                rest = await road.ask(
                    FIRST, params, decode=1, prefill=prefill, output=local.tokens[:spent]
                )
                assert rest.tokens == local.tokens[spent:]


@pytest.mark.parametrize(
    ("quantization", "kv"),
    [
        (Quantization.BF16, KvCacheDtype.AUTO),
        (Quantization.INT8, KvCacheDtype.AUTO),
        (Quantization.NONE, KvCacheDtype.INT8),
        (Quantization.INT8, KvCacheDtype.BFLOAT16),
    ],
)
async def test_rounded_schemes_say_the_same_on_every_path(
    quantization: Quantization, kv: KvCacheDtype, tmp_path: Path
) -> None:
    model = tiny_model("llama", tmp_path)
    async with open_road(
        model, decode=2, step_tokens_max=16, quantization=quantization, kv=kv
    ) as road:
        local = await road.ask(FIRST, PARAMS, decode=0, prefill=None)
        remote = await road.ask(FIRST, PARAMS, decode=1)
        again = await road.ask(FIRST, PARAMS, decode=1)
        assert (remote.path, again.path) == ("remote", "local:cached")
        assert len(local.tokens) == COUNT
        assert local.tokens == remote.tokens == again.tokens


@pytest.mark.parametrize("prefill", [None, 0], ids=["aggregated", "hand-off"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
async def test_preempted_requests_say_what_they_would_have_said(
    family: str, prefill: int | None, tmp_path: Path
) -> None:
    model = tiny_model(family, tmp_path)
    oracle = Oracle(model)
    prompts = [prompt(30, salt=salt) for salt in (1, 2, 3, 4)]
    # Long answers, so that all are there at once however fast the first ones run: four of ten
    # blocks each, where there are thirteen.
    params = replace(PARAMS, max_tokens=120)
    async with open_road(model, decode=2, decode_blocks=13) as road:
        alone = [await road.ask(tokens, params, decode=1, prefill=prefill) for tokens in prompts]
        crowd = [await road.start(tokens, params, decode=0, prefill=prefill) for tokens in prompts]
        for answer in crowd:
            await answer.done.wait()
        assert road.decode[0].load.preemptions > 0
        assert road.decode[1].load.preemptions == 0
    for tokens, solo, preempted in zip(prompts, alone, crowd, strict=True):
        assert len(solo.tokens) == 120
        assert preempted.tokens == solo.tokens
        preempted.samples = preempted.samples[:COUNT]
        check_continuation(preempted, oracle.greedy(tokens, COUNT))


async def test_with_8_bit_kv_neither_preemption_nor_guessing_nor_company_changes_a_token(
    tmp_path: Path,
) -> None:
    model = tiny_model("llama", tmp_path)
    prompts = [prompt(30, salt=salt) for salt in (1, 2, 3, 4)]
    params = replace(PARAMS, max_tokens=120, logprobs=None)
    async with open_road(
        model,
        decode=2,
        decode_blocks=13,
        speculation=Speculation.PROMPT_LOOKUP,
        kv=KvCacheDtype.INT8,
    ) as road:
        guessed = [await road.ask(tokens, params, decode=1) for tokens in prompts]
        crowd = [await road.start(tokens, params, decode=0) for tokens in prompts]
        for answer in crowd:
            await answer.done.wait()
        assert road.decode[0].load.preemptions > 0
        assert road.decode[1].load.guesses_accepted > 0
    async with open_road(model, step_tokens_max=13, kv=KvCacheDtype.INT8) as road:
        plain = [await road.ask(tokens, params, prefill=None) for tokens in prompts]
    for alone, guessing, crowded in zip(plain, guessed, crowd, strict=True):
        assert len(alone.tokens) == 120
        assert alone.tokens == guessing.tokens == crowded.tokens


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("speculation", [Speculation.PROMPT_LOOKUP, Speculation.DRAFT_MODEL])
async def test_guessing_ahead_changes_no_token_on_any_path(
    speculation: Speculation, temperature: float, tmp_path: Path
) -> None:
    model = tiny_model("llama", tmp_path)
    # The model itself is the best draft there is; lookup finds the loops tiny models fall into.
    draft = model if speculation is Speculation.DRAFT_MODEL else None
    params = SamplingParams(
        max_tokens=3 * COUNT, temperature=temperature, top_k=2, seed=11, ignore_eos=True
    )
    async with open_road(model) as road:
        plain = await road.ask(FIRST, params, prefill=None)
    async with open_road(model, decode=2, speculation=speculation, draft=draft) as road:
        local = await road.ask(FIRST, params, decode=0, prefill=None)
        remote = await road.ask(FIRST, params, decode=1)
        crowd = [await road.start(FIRST[:40], params, decode=1) for _ in range(3)]
        for answer in crowd:
            await answer.done.wait()
        load = road.decode[1].load
    assert remote.path == "remote"
    assert local.tokens == remote.tokens == plain.tokens
    assert crowd[0].tokens == crowd[1].tokens == crowd[2].tokens
    assert load.guesses_made > 0
    if draft is not None:
        assert load.guesses_accepted > 0.9 * load.guesses_made


async def test_prompt_logprobs_are_those_of_transformers(tmp_path: Path) -> None:
    model = tiny_model("llama", tmp_path)
    rows = torch.log_softmax(Oracle(model).logits(FIRST), dim=-1)
    params = SamplingParams(max_tokens=1, temperature=0.0, logprobs=1, prompt_logprobs=2)
    async with open_road(model, step_tokens_max=16) as road:
        await road.ask(FIRST, PARAMS, prefill=None)  # a prefix in the cache must not shorten it
        answer = await road.ask(FIRST, params)
    assert answer.path == "local:prompt_logprobs"
    assert [sample.token_id for sample in answer.prompt_logprobs] == FIRST
    assert answer.prompt_logprobs[0].logprob is None
    for position, sample in enumerate(answer.prompt_logprobs[1:]):
        expected = float(rows[position, FIRST[position + 1]])
        assert sample.logprob == pytest.approx(expected, abs=LOGPROB_TOLERANCE)
        best = torch.topk(rows[position], 2)
        assert [entry.token_id for entry in sample.top] == best.indices.tolist()
