"""Tool calls as the unmodified `openai` client sees them, before a fake worker that says what a
real one would under the grammar it is given."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from baton.router.text import TextModel
from support.fake_decode import FakeDecode, says
from support.followed_grammars import follows
from support.router_process import RunningRouter, running_router
from support.tool_models import LLAMA_LIKE, QWEN_LIKE, TOOLLESS, tool_model
from support.tool_requests import NAMED_CLOCK, TOOLS, hermes_call, llama_call

QUESTION: Any = [{"role": "user", "content": "Weather in Paris?"}]
CONTEXT_LENGTH = 8_000
PARIS = {"city": "Paris </tool_call> é", "days": 3}
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Dialect:
    template: str
    call: Callable[..., str]


DIALECTS = {
    "qwen": Dialect(QWEN_LIKE, hermes_call),
    "llama": Dialect(LLAMA_LIKE, llama_call),
    "in-words": Dialect(TOOLLESS, hermes_call),
}
every_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@asynccontextmanager
async def serving(model: TextModel) -> AsyncIterator[tuple[RunningRouter, FakeDecode]]:
    async with (
        FakeDecode(context_length_max=CONTEXT_LENGTH) as worker,
        running_router([worker], model=model) as router,
    ):
        yield router, worker


async def ask(router: RunningRouter, *, streamed: bool, **fields: Any) -> list[dict[str, Any]]:
    """The choices, put together as clients do: content, calls, finish_reason."""
    fields = {"model": "bytes", "messages": QUESTION, "tools": TOOLS, **fields}
    if not streamed:
        answer = await router.openai.chat.completions.create(**fields)
        return [
            {
                "content": choice.message.content or "",
                "calls": [
                    (call.id, call.function.name, call.function.arguments)
                    for call in choice.message.tool_calls or ()
                ],
                "finish_reason": choice.finish_reason,
            }
            for choice in answer.choices
        ]
    choices: list[dict[str, Any]] = [
        {"content": "", "calls": [], "finish_reason": None} for _ in range(fields.get("n", 1))
    ]
    async for chunk in await router.openai.chat.completions.create(**fields, stream=True):
        (part,) = chunk.choices
        choice = choices[part.index]
        choice["content"] += part.delta.content or ""
        choice["finish_reason"] = part.finish_reason or choice["finish_reason"]
        for call in part.delta.tool_calls or ():
            if call.id is not None:
                assert call.index == len(choice["calls"])
                choice["calls"].append((call.id, call.function.name, ""))
            called = choice["calls"][call.index]
            choice["calls"][call.index] = (*called[:2], called[2] + call.function.arguments)
    return choices


def obeyed(worker: FakeDecode, text: str) -> bool:
    """Whether the grammar sent with the last request lets this answer through."""
    return follows(worker.submits[-1].sampling.grammar, text)


@every_dialect
@both_ways
async def test_a_call_has_id_name_and_arguments(dialect: Dialect, streamed: bool) -> None:
    text = dialect.call("weather", **PARIS)
    async with serving(tool_model(dialect.template)) as (router, worker):
        worker.script.reply = says(text)
        (choice,) = await ask(router, streamed=streamed)
        assert obeyed(worker, text)
    ((call_id, name, arguments),) = choice["calls"]
    assert call_id.startswith("call_")
    assert (name, json.loads(arguments)) == ("weather", PARIS)
    assert (choice["content"], choice["finish_reason"]) == ("", "tool_calls")


@every_dialect
@both_ways
async def test_an_answer_without_calls_is_as_ever(dialect: Dialect, streamed: bool) -> None:
    async with serving(tool_model(dialect.template)) as (router, worker):
        worker.script.reply = says("Rain, <I> fear. ")
        (choice,) = await ask(router, streamed=streamed)
        assert obeyed(worker, "Rain, <I> fear. ")
    assert choice == {"content": "Rain, <I> fear. ", "calls": [], "finish_reason": "stop"}


@both_ways
async def test_several_calls_behind_text_in_each_of_two_choices(streamed: bool) -> None:
    text = f"I look.\n{hermes_call('clock')}\n{hermes_call('weather', city='Rome')}"
    async with serving(tool_model(QWEN_LIKE)) as (router, worker):
        worker.script.reply = says(text)
        choices = await ask(router, streamed=streamed, n=2)
        assert obeyed(worker, text)
    for choice in choices:
        assert choice["content"] == "I look."
        assert [call[1:] for call in choice["calls"]] == [
            ("clock", "{}"),
            ("weather", '{"city": "Rome"}'),
        ]
        assert choice["finish_reason"] == "tool_calls"
    assert len({call[0] for choice in choices for call in choice["calls"]}) == 4


async def test_content_is_null_beside_calls_alone_and_calls_absent_without() -> None:
    async with serving(tool_model(QWEN_LIKE)) as (router, worker):
        worker.script.reply = says(hermes_call("clock"))
        body = {"model": "bytes", "messages": QUESTION, "tools": TOOLS}
        (called,) = (await router.http.post(CHAT, json=body)).json()["choices"]
        worker.script.reply = says("Noon.")
        (said,) = (await router.http.post(CHAT, json=body)).json()["choices"]
    assert called["message"]["content"] is None
    assert said["message"] == {"role": "assistant", "content": "Noon.", "refusal": None}


@both_ways
async def test_a_call_cut_by_the_limit_is_told_as_far_as_it_goes(streamed: bool) -> None:
    text = hermes_call("weather", **PARIS)
    limit = text.index("Paris") + 2
    async with serving(tool_model(QWEN_LIKE)) as (router, worker):
        worker.script.reply = says(text)
        (choice,) = await ask(router, streamed=streamed, max_tokens=limit)
    assert [call[1:] for call in choice["calls"]] == [("weather", '{"city": "Pa')]
    assert choice["finish_reason"] == "length"


@both_ways
async def test_a_stop_string_cuts_the_text_before_calls_are_read(streamed: bool) -> None:
    async with serving(tool_model(QWEN_LIKE)) as (router, worker):
        worker.script.reply = says(f"I look.{hermes_call('clock')}")
        (choice,) = await ask(router, streamed=streamed, stop="<tool")
    assert choice == {"content": "I look.", "calls": [], "finish_reason": "stop"}


@every_dialect
async def test_results_go_back_into_the_conversation(dialect: Dialect) -> None:
    async with serving(tool_model(dialect.template)) as (router, worker):
        worker.script.reply = says(dialect.call("weather", city="Paris"))
        answer = await router.openai.chat.completions.create(
            model="bytes", messages=QUESTION, tools=TOOLS
        )
        message: Any = answer.choices[0].message
        assert message.tool_calls is not None
        worker.script.reply = says("It rains.")
        result: Any = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "rain"}
        answer = await router.openai.chat.completions.create(
            model="bytes", messages=[*QUESTION, message, result], tools=TOOLS
        )
        assert answer.choices[0].message.content == "It rains."
        prompt = bytes(worker.submits[-1].prompt_token_ids).decode()
    expected = {
        QWEN_LIKE: "assistant: <weather [('city', 'Paris')]>\ntool: rain\n",
        LLAMA_LIKE: f"{dialect.call('weather', city='Paris')}\ntool: rain\n",
        TOOLLESS: f"assistant: {dialect.call('weather', city='Paris')}\n"
        "user: <tool_response>\nrain\n</tool_response>\n",
    }
    assert expected[dialect.template] in prompt
    assert prompt.endswith("assistant: ")
    assert '"description": "Weather in a city"' in prompt


async def test_with_none_the_model_hears_of_no_tools() -> None:
    async with serving(tool_model(QWEN_LIKE)) as (router, worker):
        (choice,) = await ask(router, streamed=False, tool_choice="none")
        sent = worker.submits[-1]
    assert choice["calls"] == []
    assert bytes(sent.prompt_token_ids).decode() == "user: Weather in Paris?\nassistant: "
    assert not sent.sampling.HasField("grammar")


@pytest.mark.parametrize(
    ("fields", "yes", "no"),
    [
        pytest.param({"tool_choice": "required"}, hermes_call("clock"), "Hello", id="required"),
        pytest.param(
            {"tool_choice": NAMED_CLOCK},
            hermes_call("clock"),
            hermes_call("weather", city="x"),
            id="named",
        ),
        pytest.param(
            {"parallel_tool_calls": False},
            hermes_call("clock"),
            f"{hermes_call('clock')}\n{hermes_call('clock')}",
            id="one",
        ),
        pytest.param({"response_format": {"type": "json_object"}}, '{"a": 1}', "Hello", id="json"),
    ],
)
async def test_the_workers_grammar_is_what_the_request_says(
    fields: dict[str, Any], yes: str, no: str
) -> None:
    async with serving(tool_model(QWEN_LIKE)) as (router, worker):
        worker.script.reply = says(yes)
        await ask(router, streamed=False, **fields)
        assert obeyed(worker, yes)
        assert not obeyed(worker, no)


BROKEN = {"type": "function", "function": {"name": "f", "parameters": {"properties": 3}}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"tools": [{"type": "custom"}]}, "tools[0].type", id="custom"),
        pytest.param({"tools": [BROKEN]}, "tools", id="schema"),
        pytest.param({"tools": [], "tool_choice": "required"}, "tool_choice", id="alone"),
        pytest.param(
            {"extra_body": {"structured_outputs": {"regex": "a"}}},
            "structured_outputs",
            id="other-form",
        ),
        pytest.param(
            {"messages": [*QUESTION, {"role": "tool", "tool_call_id": "x", "content": None}]},
            "messages[1].content",
            id="no-result",
        ),
    ],
)
async def test_what_cannot_be_done_is_refused(fields: dict[str, Any], param: str) -> None:
    async with serving(tool_model(QWEN_LIKE)) as (router, worker):
        with pytest.raises(openai.BadRequestError) as refused:
            await ask(router, streamed=False, **fields)
        assert worker.submits == []
    assert refused.value.param == param


async def test_completions_have_no_tools() -> None:
    async with serving(tool_model(QWEN_LIKE)) as (router, _):
        body = {"model": "bytes", "prompt": "x", "tools": TOOLS}
        answer = await router.http.post("/v1/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tools"
