"""Models that think before they answer, as the unmodified `openai` client sees them, before a fake
worker that says what a real one would."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from openai.types.responses import ResponseOutputMessage, ResponseReasoningItem
from support.fake_decode import FakeDecode, says
from support.followed_grammars import follows
from support.responses_client import ask as respond
from support.responses_client import strict_client
from support.router_process import RunningRouter, running_router
from support.tool_models import THOUGHTFUL, tool_model
from support.tool_requests import TOOLS, hermes_call

QUESTION: Any = [{"role": "user", "content": "2 + 2?"}]
THOUGHT = "Two and two...\n\nor <b>?"
SAID = f"<think>\n{THOUGHT}\n</think>\n\n"
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@dataclass(frozen=True)
class Answer:
    content: str
    thought: str
    calls: list[str]
    finish_reason: str | None
    thought_tokens: int


@pytest.fixture
async def worker() -> AsyncIterator[FakeDecode]:
    async with FakeDecode(context_length_max=8_000) as worker:
        yield worker


@pytest.fixture
async def router(worker: FakeDecode) -> AsyncIterator[RunningRouter]:
    async with running_router([worker], model=tool_model(THOUGHTFUL)) as router:
        yield router


async def ask(router: RunningRouter, *, streamed: bool, **fields: Any) -> Answer:
    """One choice, put together as clients do."""
    fields = {"model": "bytes", "messages": QUESTION, **fields}
    create = router.openai.chat.completions.create
    if not streamed:
        answer = await create(**fields)
        message: Any = answer.choices[0].message
        thought = getattr(message, "reasoning", None) or ""
        assert (getattr(message, "reasoning_content", None) or "") == thought
        calls = [call.function.name for call in message.tool_calls or ()]
        finish, usage = answer.choices[0].finish_reason, answer.usage
        content = message.content or ""
    else:
        content, thought, calls, finish, usage = "", "", [], None, None
        options = {"include_usage": True}
        async for chunk in await create(**fields, stream=True, stream_options=options):
            usage = chunk.usage or usage
            for part in chunk.choices:
                content += part.delta.content or ""
                thought += getattr(part.delta, "reasoning", "")
                calls += [call.function.name for call in part.delta.tool_calls or () if call.id]
                finish = part.finish_reason or finish
    return Answer(content, thought, calls, finish, usage.completion_tokens_details.reasoning_tokens)


def prompt_of(worker: FakeDecode) -> str:
    return bytes(worker.submits[-1].prompt_token_ids).decode()


def obeyed(worker: FakeDecode, text: str) -> bool:
    return follows(worker.submits[-1].sampling.grammar, text)


@both_ways
async def test_thoughts_are_told_apart(
    router: RunningRouter, worker: FakeDecode, streamed: bool
) -> None:
    worker.script.reply = says(f"{SAID}Four.")
    answer = await ask(router, streamed=streamed)
    tokens = len(SAID.rstrip()) - len("<think")  # a byte each, from where the mark is whole
    assert answer == Answer("Four.", THOUGHT, [], "stop", tokens)


@both_ways
async def test_an_answer_cut_in_its_thoughts_has_no_content(
    router: RunningRouter, worker: FakeDecode, streamed: bool
) -> None:
    worker.script.reply = says(f"{SAID}Four.")
    answer = await ask(router, streamed=streamed, max_tokens=16)
    assert (answer.content, answer.thought, answer.finish_reason) == ("", "Two and", "length")


@both_ways
async def test_who_does_not_want_thoughts_is_not_told(
    router: RunningRouter, worker: FakeDecode, streamed: bool
) -> None:
    worker.script.reply = says(f"{SAID}Four.")
    without = {"include_reasoning": False}
    answer = await ask(router, streamed=streamed, extra_body=without)
    assert (answer.content, answer.thought) == ("Four.", "")
    assert answer.thought_tokens > 0


async def test_where_thoughts_might_have_been_the_fields_are_there(
    router: RunningRouter, worker: FakeDecode
) -> None:
    worker.script.reply = says("Four.")
    body = {"messages": QUESTION}
    message = (await router.http.post("/v1/chat/completions", json=body)).json()["choices"][0]
    told = {"reasoning": None, "reasoning_content": None}
    assert message["message"] == {"role": "assistant", "content": "Four.", "refusal": None, **told}


@both_ways
async def test_a_form_holds_from_where_the_thoughts_end(
    router: RunningRouter, worker: FakeDecode, streamed: bool
) -> None:
    worker.script.reply = says(f'{SAID}{{"sum": 4}}')
    form: Any = {"type": "json_object"}
    answer = await ask(router, streamed=streamed, response_format=form)
    assert (answer.content, answer.thought) == ('{"sum": 4}', THOUGHT)
    assert obeyed(worker, f'{SAID}{{"sum": 4}}')
    assert obeyed(worker, '{"sum": 4}')
    assert not obeyed(worker, f"{SAID}Four.")


@both_ways
async def test_calls_come_behind_thoughts_that_may_speak_of_them(
    router: RunningRouter, worker: FakeDecode, streamed: bool
) -> None:
    said = f"<think>\nI <tool_call> it.\n</think>\n\n{hermes_call('clock')}"
    worker.script.reply = says(said)
    answer = await ask(router, streamed=streamed, tools=TOOLS)
    assert obeyed(worker, said)
    assert (answer.thought, answer.calls) == ("I <tool_call> it.", ["clock"])
    assert (answer.content, answer.finish_reason) == ("", "tool_calls")


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"reasoning_effort": "none"}, id="openais-way"),
        pytest.param(
            {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}, id="vllms-way"
        ),
    ],
)
async def test_thinking_can_be_switched_off(
    router: RunningRouter, worker: FakeDecode, fields: dict[str, Any]
) -> None:
    worker.script.reply = says("Four </think>.")
    answer = await ask(router, streamed=False, **fields)
    assert prompt_of(worker).endswith("assistant: <think>\n\n</think>\n\n")
    assert (answer.content, answer.thought_tokens) == ("Four </think>.", 0)


async def test_the_prompt_may_open_the_thoughts(router: RunningRouter, worker: FakeDecode) -> None:
    worker.script.reply = says("Hm.\n</think>\n\nyes")
    opened = {"chat_template_kwargs": {"opened": True}}
    form = {"structured_outputs": {"choice": ["yes", "no"]}}
    answer = await ask(router, streamed=False, extra_body={**opened, **form})
    assert (answer.content, answer.thought) == ("yes", "Hm.")
    assert obeyed(worker, "Hm.\n</think>\n\nyes")
    assert not obeyed(worker, "yes")


async def test_what_was_thought_goes_back_into_the_conversation(
    router: RunningRouter, worker: FakeDecode
) -> None:
    worker.script.reply = says(f"{SAID}Four.")
    answer = await router.openai.chat.completions.create(model="bytes", messages=QUESTION)
    again: Any = [*QUESTION, answer.choices[0].message, {"role": "user", "content": "Sure?"}]
    await ask(router, streamed=False, messages=again)
    assert f"assistant: <think>{THOUGHT}</think>Four.\n" in prompt_of(worker)


@both_ways
async def test_a_response_has_a_reasoning_item(
    router: RunningRouter, worker: FakeDecode, streamed: bool
) -> None:
    worker.script.reply = says(f"{SAID}Four.")
    async with strict_client(router) as client:
        answer = await respond(client, streamed=streamed)
        reasoning, message = answer.output
        assert isinstance(reasoning, ResponseReasoningItem)
        assert isinstance(message, ResponseOutputMessage)
        assert [part.text for part in reasoning.content or ()] == [THOUGHT]
        assert answer.output_text == "Four."
        assert answer.usage is not None
        assert answer.usage.output_tokens_details.reasoning_tokens > 0
        items: Any = [*QUESTION, *answer.output, {"role": "user", "content": "Sure?"}]
        await respond(client, streamed=False, input=items, reasoning={"effort": "none"})
    assert f"assistant: <think>{THOUGHT}</think>Four.\n" in prompt_of(worker)
    assert prompt_of(worker).endswith("</think>\n\n")
