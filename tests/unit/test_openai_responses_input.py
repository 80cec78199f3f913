"""The items of a Responses request as a chat, and where each of its messages came from."""

from typing import Any

import msgspec
import pytest
from baton.common.errors import InvalidRequest
from baton.router.openai.conversation import TemplateMessage, conversation
from baton.router.openai.responses_api.input import chat_messages
from baton.router.openai.responses_api.request import ResponsesRequest
from baton.router.openai.schemas import parse_body

USER = {"role": "user", "content": "Weather?"}
SPEECH = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}],
}
CLOCK = {"type": "function_call", "call_id": "call_1", "name": "clock", "arguments": "{}"}
WEATHER = {**CLOCK, "id": "fc_2", "call_id": "call_2", "name": "weather", "status": "completed"}


def asked(**fields: object) -> ResponsesRequest:
    return parse_body(ResponsesRequest, msgspec.json.encode({"model": "bytes", **fields}))


def told(**fields: object) -> list[TemplateMessage]:
    return conversation(chat_messages(asked(**fields))[0])


def result(call_id: str, output: object) -> dict[str, object]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def test_a_text_is_what_the_user_says() -> None:
    assert told(input="hi") == [{"role": "user", "content": "hi"}]


def test_instructions_come_first() -> None:
    system, user = told(input=[USER], instructions="Be brief.")
    assert system == {"role": "system", "content": "Be brief."}
    assert user == USER


@pytest.mark.parametrize("kind", ["input_text", "output_text", "text"])
def test_parts_of_a_message_are_joined(kind: str) -> None:
    parts = [{"type": kind, "text": "a"}, {"type": kind, "text": "b"}]
    message = {"type": "message", "role": "developer", "content": parts}
    assert told(input=[message]) == [{"role": "system", "content": "ab"}]


def thought(*texts: str) -> dict[str, object]:
    content = [{"type": "reasoning_text", "text": text} for text in texts]
    return {"type": "reasoning", "id": "rs_1", "summary": [], "content": content}


def test_thoughts_belong_to_what_was_said_after_them() -> None:
    said, called = told(input=[thought("H", "m."), SPEECH, thought("So."), CLOCK])
    assert (said["reasoning"], said["content"]) == ("Hm.", "I look.")
    assert (called["reasoning"], calls_of(called)) == ("So.", [("call_1", "clock")])


def test_thoughts_that_nobody_spoke_after_are_dropped() -> None:
    assert told(input=[thought("Hm."), USER, SPEECH])[1] == {
        "role": "assistant",
        "content": "I look.",
    }
    assert told(input=[USER, thought("Hm.")]) == [USER]


def calls_of(message: TemplateMessage) -> list[tuple[str, str]]:
    return [(call["id"], call["function"]["name"]) for call in message["tool_calls"]]


def test_calls_join_the_text_before_them_and_each_other() -> None:
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
    items = [USER, reasoning, SPEECH, CLOCK, reasoning, WEATHER, result("call_1", "noon")]
    user, assistant, tool = told(input=items)
    assert user == USER
    assert assistant["content"] == "I look."
    assert calls_of(assistant) == [("call_1", "clock"), ("call_2", "weather")]
    assert tool == {"role": "tool", "tool_call_id": "call_1", "content": "noon"}


def test_calls_behind_a_result_are_of_a_new_message() -> None:
    parts = [{"type": "input_text", "text": "no"}, {"type": "input_text", "text": "on"}]
    _, first, tool, second = told(input=[USER, CLOCK, result("call_1", parts), WEATHER])
    assert calls_of(first) == [("call_1", "clock")]
    assert tool["content"] == "noon"
    assert calls_of(second) == [("call_2", "weather")]


def test_every_message_and_call_has_its_place() -> None:
    items = [USER, CLOCK, WEATHER, result("call_1", "noon")]
    _, places = chat_messages(asked(input=items, instructions="Be brief."))
    assert places == {
        "messages[0]": "instructions",
        "messages[1]": "input[0]",
        "messages[2]": "input[1]",
        "messages[2].tool_calls[0]": "input[1]",
        "messages[2].tool_calls[0].function": "input[1]",
        "messages[2].tool_calls[1]": "input[2]",
        "messages[2].tool_calls[1].function": "input[2]",
        "messages[3]": "input[3]",
        "messages[3].content": "input[3].output",
    }


@pytest.mark.parametrize(
    ("item", "param"),
    [
        pytest.param({"type": "item_reference", "id": "msg_1"}, "input[1]", id="reference"),
        pytest.param({"type": "computer_call_output"}, "input[1]", id="other"),
        pytest.param({"type": ["x"]}, "input[1]", id="type-no-text"),
        pytest.param({"role": "tool", "content": "x"}, "input[1].role", id="role"),
        pytest.param({"content": "x"}, "input[1].role", id="no-role"),
        pytest.param({"role": "user"}, "input[1].content", id="no-content"),
        pytest.param(
            {"role": "user", "content": [{"type": 1}]}, "input[1].content[0].type", id="part"
        ),
        pytest.param({**CLOCK, "call_id": None}, "input[1].call_id", id="call-id"),
        pytest.param({"type": "function_call_output"}, "input[1].output", id="no-output"),
    ],
)
def test_an_item_that_is_wrong_is_named(item: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        told(input=[USER, item])
    assert refused.value.param == param
