"""What the Responses API refuses, in its own words, and how it tells what went wrong."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from support.fake_decode import PARIS, FakeDecode
from support.responses_client import FLAT_TOOLS, LOGPROBS, RESPONSES, ask, strict_client
from support.router_process import RunningRouter, running_router
from support.tool_models import QWEN_LIKE, tool_model

BROKEN = {"type": "function", "name": "f", "parameters": {"properties": 3}}
DEEP = '{"a":' * 200 + "1" + "}" * 200
DEEP_CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": DEEP}
IMAGE = {"type": "input_image", "image_url": "data:"}


def user(*parts: object) -> dict[str, object]:
    return {"role": "user", "content": list(parts)}


@pytest.fixture
async def worker() -> AsyncIterator[FakeDecode]:
    async with FakeDecode(context_length_max=8_000) as worker:
        yield worker


@pytest.fixture
async def router(worker: FakeDecode) -> AsyncIterator[RunningRouter]:
    async with running_router([worker], model=tool_model(QWEN_LIKE)) as router:
        yield router


@pytest.fixture
async def client(router: RunningRouter) -> AsyncIterator[openai.AsyncOpenAI]:
    async with strict_client(router) as client:
        yield client


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"previous_response_id": "resp_1"}, "previous_response_id", id="previous"),
        pytest.param({"conversation": "conv_1"}, "conversation", id="conversation"),
        pytest.param({"background": True}, "background", id="background"),
        pytest.param({"prompt": {"id": "pmpt_1"}}, "prompt", id="prompt"),
        pytest.param({"truncation": "auto"}, "truncation", id="truncation"),
        pytest.param({"n": 2}, "n", id="n"),
        pytest.param({"max_tokens": 5}, "max_tokens", id="chats-limit"),
        pytest.param({"max_output_tokens": 0}, "max_output_tokens", id="limit"),
        pytest.param({"input": "x" * 8_000}, "input", id="context"),
        pytest.param({"reasoning": {"effort": "bogus"}}, "reasoning.effort", id="effort"),
        pytest.param({"temperature": 2.1}, "temperature", id="temperature"),
        pytest.param({"top_logprobs": 2}, "top_logprobs", id="top-logprobs-alone"),
        pytest.param({"include": LOGPROBS, "top_logprobs": 21}, "top_logprobs", id="top-logprobs"),
        pytest.param({"input": None}, "input", id="no-input"),
        pytest.param({"input": []}, "input", id="empty-input"),
        pytest.param({"input": [{"type": "item_reference"}]}, "input[0]", id="reference"),
        pytest.param({"input": [user(IMAGE)]}, "input[0].content[0]", id="image"),
        pytest.param({"input": [user({"type": 1})]}, "input[0].content[0].type", id="part"),
        pytest.param(
            {"input": [user(), DEEP_CALL], "instructions": "x"},
            "input[1].arguments",
            id="arguments",
        ),
        pytest.param({"text": {"format": {"type": "xml"}}}, "text.format.type", id="format"),
        pytest.param(
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "strin"}}}},
            "text.format",
            id="schema",
        ),
        pytest.param({"tools": [{"type": "web_search"}]}, "tools[0].type", id="web-search"),
        pytest.param({"tools": [{**BROKEN, "name": "a b"}]}, "tools[0].name", id="tool-name"),
        pytest.param({"tools": [BROKEN]}, "tools", id="tool-schema"),
        pytest.param({"tool_choice": "required"}, "tool_choice", id="no-tools"),
        pytest.param(
            {
                "tools": FLAT_TOOLS,
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []},
            },
            "tool_choice.tools",
            id="nothing-allowed",
        ),
    ],
)
async def test_what_cannot_be_done_is_refused_in_this_apis_words(
    router: RunningRouter, worker: FakeDecode, fields: dict[str, Any], param: str
) -> None:
    answer = await router.http.post(RESPONSES, json={"model": "bytes", "input": "hi", **fields})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    for foreign in ("messages", "max_completion_tokens", "response_format", "function.name"):
        assert foreign not in error["message"]
    assert worker.submits == []


async def test_an_unknown_model_is_a_404(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await ask(client, streamed=False, model="other")
    assert refused.value.code == "model_not_found"


async def test_responses_are_not_stored(client: openai.AsyncOpenAI) -> None:
    answer = await ask(client, streamed=False)
    for attempt in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError, match="stores no responses") as refused:
            await attempt(answer.id)
        assert refused.value.code == "not_found"


async def test_an_error_before_the_first_token_of_a_stream_has_its_status(
    client: openai.AsyncOpenAI, worker: FakeDecode
) -> None:
    worker.script.fail_after = 0
    with pytest.raises(openai.InternalServerError) as failed:
        await ask(client, streamed=True)
    assert failed.value.code == "engine_failure"


async def test_an_error_after_the_first_byte_is_told_by_the_last_two_events(
    client: openai.AsyncOpenAI, worker: FakeDecode
) -> None:
    worker.script.fail_after = 3
    stream = await client.responses.create(model="bytes", input="hi", stream=True)
    *_, error, failed = [event async for event in stream]
    assert error.type == "error"
    assert (error.code, error.message) == ("engine_failure", "a step failed")
    assert failed.type == "response.failed"
    assert failed.response.error is not None
    assert (failed.response.status, failed.response.error.code) == ("failed", "server_error")
    assert failed.response.output_text == PARIS[:3]
