"""The Responses API as the unmodified `openai` client sees it, before a fake decode worker. The
client checks every body and event against its own types."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pydantic
import pytest
from openai.types.responses import Response, ResponseFunctionToolCall, ResponseOutputMessage
from support.fake_decode import PARIS, FakeDecode, says
from support.followed_grammars import follows
from support.responses_client import FLAT_TOOLS, LOGPROBS, QUESTION, RESPONSES, ask, strict_client
from support.router_process import RunningRouter, running_router
from support.tool_models import QWEN_LIKE, tool_model
from support.tool_requests import hermes_call

CLOCK_ALONE: Any = {"type": "function", "name": "clock"}
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


class City(pydantic.BaseModel):
    name: str
    rivers: list[str]


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


def prompt_of(worker: FakeDecode) -> str:
    return bytes(worker.submits[-1].prompt_token_ids).decode()


def calls_of(response: Response) -> list[ResponseFunctionToolCall]:
    return [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]


@both_ways
async def test_a_text(client: openai.AsyncOpenAI, streamed: bool) -> None:
    answer = await ask(client, streamed=streamed)
    assert answer.id.startswith("resp_")
    assert (answer.object, answer.status, answer.model) == ("response", "completed", "bytes")
    assert answer.output_text == PARIS
    (message,) = answer.output
    assert isinstance(message, ResponseOutputMessage)
    assert message.id.startswith("msg_")
    assert (message.role, message.status) == ("assistant", "completed")
    assert (answer.error, answer.incomplete_details) == (None, None)
    usage = answer.usage
    assert usage is not None
    assert usage.input_tokens == len(f"user: {QUESTION}\nassistant: ")
    assert usage.output_tokens == len(PARIS) + 1  # the end-of-sequence token counts
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.input_tokens_details.cached_tokens == 4


@both_ways
async def test_a_response_repeats_what_was_asked(
    client: openai.AsyncOpenAI, streamed: bool
) -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [CLOCK_ALONE]}
    fields: dict[str, Any] = {
        "instructions": "Be brief.",
        "max_output_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.25,
        "tools": FLAT_TOOLS,
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "metadata": {"a": "b"},
        "text": {"format": {"type": "json_object"}},
    }
    answer = await ask(client, streamed=streamed, **fields)
    told = answer.to_dict()
    assert {name: told[name] for name in fields} == fields


async def test_a_response_tells_what_holds_by_itself(router: RunningRouter) -> None:
    asked = {"model": "bytes", "input": "hi", "store": True, "reasoning": {"effort": "high"}}
    told = (await router.http.post(RESPONSES, json=asked)).json()
    expected = {
        "background": False,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": "high", "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
    }
    assert {name: told[name] for name in expected} == expected


async def test_a_stream_is_plain_server_sent_events(router: RunningRouter) -> None:
    asked = {"model": "bytes", "input": "hi", "stream": True, "max_output_tokens": 1}
    answer = await router.http.post(RESPONSES, json=asked)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, end = answer.text.split("\n\n")
    assert end == ""
    assert [event.split("\n")[0] for event in events] == [
        "event: response.created",
        "event: response.in_progress",
        "event: response.output_item.added",
        "event: response.content_part.added",
        "event: response.output_text.delta",
        "event: response.output_text.done",
        "event: response.content_part.done",
        "event: response.output_item.done",
        "event: response.incomplete",
    ]


async def test_the_clients_own_stream_puts_the_text_together(client: openai.AsyncOpenAI) -> None:
    async with client.responses.stream(model="bytes", input="hi") as stream:
        snapshots = [e.snapshot async for e in stream if e.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert snapshots[-1] == final.output_text == PARIS


@both_ways
async def test_a_pydantic_model_is_parsed(
    client: openai.AsyncOpenAI, worker: FakeDecode, streamed: bool
) -> None:
    said = json.dumps({"name": "Paris", "rivers": ["Seine"]})
    worker.script.reply = says(said)
    if streamed:
        async with client.responses.stream(model="bytes", input="x", text_format=City) as stream:
            parsed = (await stream.get_final_response()).output_parsed
    else:
        answer = await client.responses.parse(model="bytes", input="x", text_format=City)
        parsed = answer.output_parsed
    assert parsed == City(name="Paris", rivers=["Seine"])
    grammar = worker.submits[-1].sampling.grammar
    assert follows(grammar, said)
    assert not follows(grammar, '{"name": "Paris"}')


@both_ways
async def test_a_call_alone(client: openai.AsyncOpenAI, worker: FakeDecode, streamed: bool) -> None:
    worker.script.reply = says(hermes_call("weather", city="Paris"))
    answer = await ask(client, streamed=streamed, tools=FLAT_TOOLS)
    (call,) = answer.output
    assert isinstance(call, ResponseFunctionToolCall)
    assert call.id is not None
    assert call.id.startswith("fc_")
    assert call.call_id.startswith("call_")
    assert (call.name, call.status) == ("weather", "completed")
    assert json.loads(call.arguments) == {"city": "Paris"}


async def test_the_clients_own_stream_puts_calls_together(
    client: openai.AsyncOpenAI, worker: FakeDecode
) -> None:
    calls = f"{hermes_call('clock')}\n{hermes_call('weather', city='Rome')}"
    worker.script.reply = says(f"I look.\n{calls}")
    async with client.responses.stream(model="bytes", input="hi", tools=FLAT_TOOLS) as stream:
        grown = {
            event.output_index: event.snapshot
            async for event in stream
            if event.type == "response.function_call_arguments.delta"
        }
        final = await stream.get_final_response()
    assert final.output_text == "I look."
    assert grown == {1: "{}", 2: '{"city": "Rome"}'}
    assert [call.arguments for call in calls_of(final)] == list(grown.values())


async def test_results_go_back_into_the_conversation(
    client: openai.AsyncOpenAI, worker: FakeDecode
) -> None:
    calls = f"{hermes_call('clock')}\n{hermes_call('weather', city='Paris')}"
    worker.script.reply = says(f"I look.\n{calls}")
    first = await ask(client, streamed=False, tools=FLAT_TOOLS)
    items: list[Any] = [{"role": "user", "content": QUESTION}, *first.output]
    for call, output in zip(calls_of(first), ("noon", "rain"), strict=True):
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": output})
    worker.script.reply = says("It rains.")
    second = await ask(client, streamed=False, input=items, tools=FLAT_TOOLS, instructions="Short.")
    assert second.output_text == "It rains."
    assert prompt_of(worker).endswith(
        "system: Short.\n"
        f"user: {QUESTION}\n"
        "assistant: I look.<clock []><weather [('city', 'Paris')]>\n"
        "tool: noon\ntool: rain\n"
        "assistant: "
    )


@pytest.mark.parametrize(
    ("fields", "yes", "no"),
    [
        pytest.param({"tool_choice": "required"}, hermes_call("clock"), "Hello", id="required"),
        pytest.param(
            {"tool_choice": CLOCK_ALONE},
            hermes_call("clock"),
            hermes_call("weather", city="x"),
            id="named",
        ),
        pytest.param(
            {"tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [CLOCK_ALONE]}},
            hermes_call("clock"),
            hermes_call("weather", city="x"),
            id="allowed",
        ),
        pytest.param(
            {"text": {"format": {"type": "json_object"}}, "tools": []}, '{"a": 1}', "Hi", id="json"
        ),
    ],
)
async def test_the_workers_grammar_is_what_the_request_says(
    client: openai.AsyncOpenAI, worker: FakeDecode, fields: dict[str, Any], yes: str, no: str
) -> None:
    worker.script.reply = says(yes)
    await ask(client, streamed=False, **{"tools": FLAT_TOOLS, **fields})
    grammar = worker.submits[-1].sampling.grammar
    assert follows(grammar, yes)
    assert not follows(grammar, no)


@both_ways
async def test_an_output_at_its_limit_is_incomplete(
    client: openai.AsyncOpenAI, streamed: bool
) -> None:
    answer = await ask(client, streamed=streamed, max_output_tokens=5)
    assert (answer.status, answer.output_text) == ("incomplete", PARIS[:5])
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output[0].status == "incomplete"


@both_ways
async def test_logprobs(client: openai.AsyncOpenAI, streamed: bool) -> None:
    answer = await ask(
        client, streamed=streamed, include=LOGPROBS, top_logprobs=2, max_output_tokens=1
    )
    (message,) = answer.output
    assert isinstance(message, ResponseOutputMessage)
    (part,) = message.content
    assert part.type == "output_text"
    assert part.logprobs is not None
    (entry,) = part.logprobs
    assert (entry.token, entry.bytes, entry.logprob) == ("P", [80], -80 / 256)
    assert [top.token for top in entry.top_logprobs] == ["P", "Q"]


async def test_sampling_fields_reach_the_worker(
    client: openai.AsyncOpenAI, worker: FakeDecode
) -> None:
    extra = {"seed": 7, "top_k": 5, "stop": " the", "an_unknown_field": {"is": "accepted"}}
    answer = await ask(
        client, streamed=False, temperature=0.5, top_p=0.25, user="someone", extra_body=extra
    )
    sampling = worker.submits[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.25, 5)
    assert sampling.seed == 7
    assert (answer.status, answer.output_text) == ("completed", "Paris is")


async def test_responses_are_measured_as_chats_are(
    router: RunningRouter, client: openai.AsyncOpenAI
) -> None:
    await ask(client, streamed=False, max_output_tokens=4)
    metrics = (await router.http.get("/metrics")).text
    assert 'vllm:generation_tokens_total{model_name="bytes"} 4.0' in metrics
    assert 'requests_total{endpoint="/v1/responses",model_name="bytes",status="200"} 1.0' in metrics
