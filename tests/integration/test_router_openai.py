"""The OpenAI endpoint as the unmodified `openai` client sees it, before a fake decode worker."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from support.fake_decode import PARIS, FakeDecode
from support.router_process import RunningRouter, running_router

QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
async def worker() -> AsyncIterator[FakeDecode]:
    async with FakeDecode() as worker:
        yield worker


@pytest.fixture
async def router(worker: FakeDecode) -> AsyncIterator[RunningRouter]:
    async with running_router([worker]) as router:
        yield router


async def test_chat_answers_whole(router: RunningRouter) -> None:
    answer = await router.openai.chat.completions.create(model="bytes", messages=QUESTION)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == PARIS
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.tool_calls is None
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(PARIS) + 1  # the end-of-sequence token counts
    assert answer.usage.prompt_tokens == len("user: \nassistant: ") + len(QUESTION[0]["content"])
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 4


async def test_chat_streams_role_text_finish_and_usage(router: RunningRouter) -> None:
    stream = await router.openai.chat.completions.create(
        model="bytes", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    *body, usage = chunks
    assert body[0].choices[0].delta.role == "assistant"
    assert body[0].choices[0].delta.content == ""
    assert "".join(chunk.choices[0].delta.content or "" for chunk in body) == PARIS
    assert [chunk.choices[0].finish_reason for chunk in body[:-1]] == [None] * (len(body) - 1)
    assert body[-1].choices[0].finish_reason == "stop"
    assert body[-1].choices[0].delta.content is None
    assert all(chunk.usage is None for chunk in body)
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens == len(PARIS) + 1
    assert usage.usage.prompt_tokens_details is not None
    assert usage.usage.prompt_tokens_details.cached_tokens == 4
    assert len({chunk.id for chunk in chunks}) == 1


async def test_stream_is_plain_server_sent_events(router: RunningRouter) -> None:
    body = {"model": "bytes", "messages": QUESTION, "stream": True, "max_tokens": 2}
    answer = await router.http.post("/v1/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.split("\n\n")
    assert all(event.startswith("data: {") for event in events[:-2])
    assert events[-2:] == ["data: [DONE]", ""]
    assert '"usage"' not in answer.text  # nobody asked


async def test_an_output_at_its_limit_finishes_with_length(router: RunningRouter) -> None:
    answer = await router.openai.chat.completions.create(
        model="bytes", messages=QUESTION, max_completion_tokens=5
    )
    assert answer.choices[0].message.content == PARIS[:5]
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_stop_string_cuts_the_text_and_cancels_the_work(
    router: RunningRouter, worker: FakeDecode, streamed: bool
) -> None:
    worker.script.hold_after = len("Paris is the")
    if streamed:
        stream = await router.openai.completions.create(
            model="bytes", prompt="x", max_tokens=50, stop=[" the", "never"], stream=True
        )
        choices = [chunk.choices[0] async for chunk in stream]
    else:
        answer = await router.openai.completions.create(
            model="bytes", prompt="x", max_tokens=50, stop=" the"
        )
        choices = answer.choices
        assert answer.usage is not None
        assert answer.usage.completion_tokens == len("Paris is the")
    assert "".join(choice.text for choice in choices) == "Paris is"
    assert choices[-1].finish_reason == "stop"
    await worker.until(lambda w: w.cancels == [w.submits[0].request_id])


@pytest.mark.parametrize("chat", [False, True], ids=["text", "chat"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"stop": ["never", " the"]}, " the", id="string"),
        pytest.param({"stop_token_ids": [ord(".")]}, ord("."), id="token"),
        pytest.param({}, None, id="its-own-end"),
    ],
)
async def test_what_stopped_an_answer_is_told(
    router: RunningRouter,
    worker: FakeDecode,
    fields: dict[str, Any],
    reason: object,
    streamed: bool,
    chat: bool,
) -> None:
    if "stop_token_ids" in fields:
        worker.script.reply = lambda _: list(PARIS.encode())  # its last one is the full stop
    body = {"model": "bytes", "stream": streamed, **fields}
    body |= {"messages": QUESTION} if chat else {"prompt": "x", "max_tokens": 50}
    path = "/v1/chat/completions" if chat else "/v1/completions"
    answer = await router.http.post(path, json=body)
    if not streamed:
        (choice,) = answer.json()["choices"]
    else:
        lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n")]
        choice = json.loads(lines[-3])["choices"][0]  # before [DONE] and what is behind it
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", reason)


async def test_stop_string_can_be_kept(router: RunningRouter) -> None:
    answer = await router.openai.completions.create(
        model="bytes",
        prompt="x",
        max_tokens=50,
        stop=" the",
        extra_body={"include_stop_str_in_output": True},
    )
    assert answer.choices[0].text == "Paris is the"


async def test_characters_of_several_tokens_stay_whole(
    router: RunningRouter, worker: FakeDecode
) -> None:
    worker.script.reply = lambda submit: [*"né 🎼".encode(), 0xE2, 0x82]
    stream = await router.openai.completions.create(model="bytes", prompt="x", stream=True)
    texts = [chunk.choices[0].text async for chunk in stream]
    assert [text for text in texts if text] == ["n", "é", " ", "🎼", "\N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize(
    ("prompt", "submitted"),
    [
        pytest.param("hi", [[256, 104, 105]], id="text"),
        pytest.param(["a", "b"], [[256, 97], [256, 98]], id="texts"),
        pytest.param([1, 2, 3], [[1, 2, 3]], id="token-ids"),
        pytest.param([[1], [2, 3]], [[1], [2, 3]], id="token-id-lists"),
    ],
)
async def test_completions_take_every_form_of_prompt(
    router: RunningRouter, worker: FakeDecode, prompt: object, submitted: list[list[int]]
) -> None:
    answer = await router.openai.completions.create(model="bytes", prompt=prompt)
    assert sorted(list(s.prompt_token_ids) for s in worker.submits) == submitted
    assert [choice.index for choice in answer.choices] == list(range(len(submitted)))
    assert {choice.text for choice in answer.choices} == {PARIS[:16]}  # OpenAI's default of 16
    assert answer.usage.prompt_tokens == sum(map(len, submitted))
    assert answer.usage.completion_tokens == 16 * len(submitted)


async def test_n_choices_have_seeds_of_their_own(router: RunningRouter, worker: FakeDecode) -> None:
    worker.script.reply = lambda submit: list(str(submit.sampling.seed).encode())
    answer = await router.openai.chat.completions.create(
        model="bytes", messages=QUESTION, n=2, seed=7
    )
    again = await router.openai.chat.completions.create(
        model="bytes", messages=QUESTION, n=2, seed=7
    )
    texts = [choice.message.content for choice in answer.choices]
    assert texts[0] == "7"  # the first choice is what n=1 gives
    assert texts[1] != "7"
    assert [choice.message.content for choice in again.choices] == texts
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 4  # of the prompt, told once


async def test_streamed_choices_are_told_apart(router: RunningRouter, worker: FakeDecode) -> None:
    worker.script.reply = lambda submit: list(str(submit.sampling.seed).encode())
    stream = await router.openai.completions.create(
        model="bytes", prompt=["a", "b"], n=2, seed=-1, stream=True, max_tokens=30
    )
    texts = ["", "", "", ""]
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts[0] == texts[2] == str(2**64 - 1)  # -1 as 64 unsigned bits
    assert texts[1] == texts[3] != texts[0]


async def test_without_a_seed_each_request_draws_one(
    router: RunningRouter, worker: FakeDecode
) -> None:
    for _ in range(2):
        await router.openai.completions.create(model="bytes", prompt="x", max_tokens=1)
    assert worker.submits[0].sampling.seed != worker.submits[1].sampling.seed


async def test_chat_logprobs(router: RunningRouter, worker: FakeDecode) -> None:
    worker.script.reply = lambda submit: [ord("A"), 257]
    answer = await router.openai.chat.completions.create(
        model="bytes", messages=QUESTION, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    first, end = logprobs.content  # the finishing token has its entry too
    assert (first.token, first.bytes, first.logprob) == ("A", [65], -65 / 256)
    assert [(top.token, top.logprob) for top in first.top_logprobs] == [
        ("A", -65 / 256),
        ("B", -65 / 256 - 1),
    ]
    assert end.token == "</s>"
    assert answer.choices[0].message.content == "A"


async def test_streamed_chat_logprobs_come_with_their_text(router: RunningRouter) -> None:
    stream = await router.openai.chat.completions.create(
        model="bytes", messages=QUESTION, logprobs=True, stream=True, max_tokens=3
    )
    chunks = [chunk.choices[0] async for chunk in stream]
    told = [c for c in chunks if c.logprobs is not None and c.logprobs.content]
    assert [c.delta.content for c in told] == ["P", "a", "r"]
    assert [c.logprobs.content[0].token for c in told] == ["P", "a", "r"]
    assert all(c.logprobs.content[0].top_logprobs == [] for c in told)


@pytest.mark.parametrize("max_tokens", [0, 1], ids=["prompt-only", "with-a-token"])
async def test_echo_with_logprobs_as_evaluation_harnesses_ask(
    router: RunningRouter, worker: FakeDecode, max_tokens: int
) -> None:
    answer = await router.openai.completions.create(
        model="bytes", prompt=[97, 98, 99], max_tokens=max_tokens, logprobs=1, echo=True
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    expected = ["a", "b", "c", "P"][: 3 + max_tokens]
    assert logprobs.tokens == expected
    assert logprobs.token_logprobs == [None, *(-ord(t) / 256 for t in expected[1:])]
    assert logprobs.top_logprobs == [None, *({t: -ord(t) / 256} for t in expected[1:])]
    assert logprobs.text_offset == [0, 1, 2, 3][: 3 + max_tokens]
    assert answer.choices[0].text == "".join(expected)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == max_tokens
    assert worker.submits[0].sampling.prompt_logprobs == 1
    assert list(worker.submits[0].prefill_candidates) == []


async def test_models_are_listed_with_their_context(router: RunningRouter) -> None:
    models = await router.openai.models.list()
    assert [model.id for model in models.data] == ["bytes"]
    assert models.data[0].model_dump()["max_model_len"] == 120  # what the worker can hold
    assert (await router.openai.models.retrieve("bytes")).id == "bytes"
    with pytest.raises(openai.NotFoundError) as refused:
        await router.openai.models.retrieve("other/model")
    assert refused.value.code == "model_not_found"


async def test_sampling_fields_reach_the_worker(router: RunningRouter, worker: FakeDecode) -> None:
    await router.openai.chat.completions.create(
        model="bytes",
        messages=QUESTION,
        temperature=0.5,
        top_p=0.25,
        presence_penalty=1.5,
        frequency_penalty=-0.5,
        logit_bias={"65": 10},
        max_tokens=9,
        user="someone",
        extra_body={
            "top_k": 5,
            "min_p": 0.125,
            "repetition_penalty": 1.25,
            "min_tokens": 2,
            "ignore_eos": True,
            "stop_token_ids": [66],
            "an_unknown_field": {"is": "accepted"},
        },
    )
    sampling = worker.submits[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.25, 5)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (1.5, -0.5)
    assert (sampling.min_p, sampling.repetition_penalty) == (0.125, 1.25)
    assert (sampling.min_tokens, sampling.max_tokens, sampling.ignore_eos) == (2, 9, True)
    assert [(b.token_id, b.bias) for b in sampling.logit_bias] == [(65, 10)]
    assert list(sampling.stop_token_ids) == [66]
    assert 595 < worker.submits[0].deadline_s <= 600


async def test_cache_salt_is_hashed_to_sixteen_bytes(
    router: RunningRouter, worker: FakeDecode
) -> None:
    for salt in ("a", "b"):
        await router.openai.completions.create(
            model="bytes", prompt="x", max_tokens=1, extra_body={"cache_salt": salt}
        )
    salts = [submit.cache_salt for submit in worker.submits]
    assert [len(salt) for salt in salts] == [16, 16]
    assert salts[0] != salts[1]


async def test_request_ids_are_taken_or_made(router: RunningRouter) -> None:
    given = await router.http.get("/v1/models", headers={"x-request-id": "mine-1"})
    assert given.headers["x-request-id"] == "mine-1"
    for bad in ("x" * 200, "has space"):
        made = await router.http.get("/v1/models", headers={"x-request-id": bad})
        assert made.headers["x-request-id"] != bad
        assert len(made.headers["x-request-id"]) == 32


async def test_page_and_metrics(router: RunningRouter) -> None:
    await router.openai.completions.create(model="bytes", prompt="x", max_tokens=4)
    page = await router.http.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Baton</title>" in page.text
    metrics = (await router.http.get("/metrics")).text
    for line in (
        'vllm:generation_tokens_total{model_name="bytes"} 4.0',
        'vllm:request_success_total{finished_reason="length",model_name="bytes"} 1.0',
        'vllm:time_to_first_token_seconds_count{model_name="bytes"} 1.0',
        'baton_router_decisions_total{model_name="bytes",reason="no_prefill"} 1.0',
        'baton_router_workers_ready{model_name="bytes",role="decode"} 1.0',
        'requests_total{endpoint="/v1/completions",model_name="bytes",status="200"} 1.0',
    ):
        assert line in metrics
