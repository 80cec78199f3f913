"""What a Responses request asks of chat, and the words in which chat's refusals come back."""

from typing import Any

import msgspec
import pytest
from baton.common.errors import InvalidRequest, PromptTooLong
from baton.router.openai.responses_api.chat import chat_request, told_by
from baton.router.openai.responses_api.request import LOGPROBS, ResponsesRequest
from baton.router.openai.schemas import ChatRequest, parse_body
from support.tool_requests import allowed
from support.tool_requests import chat_request as chat

FLAT: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "Weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}
NESTED = {"type": "function", "function": {k: v for k, v in FLAT.items() if k != "type"}}
NAME = {"type": "function", "name": "weather"}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}
PLACES = {"messages": "input", "messages[2]": "input[1]", "tools[0].function": "tools[0]"}


def translated(**fields: object) -> ChatRequest:
    body = {"model": "bytes", "input": "hi", **fields}
    return chat_request(parse_body(ResponsesRequest, msgspec.json.encode(body)))[0]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"max_output_tokens": 5}, {"max_completion_tokens": 5}, id="limit"),
        pytest.param({"temperature": 0.5, "top_p": 0.25}, None, id="sampling"),
        pytest.param({"stream": True, "seed": 3, "stop": "x", "top_k": 4}, None, id="chat's"),
        pytest.param({"stream_options": {"include_obfuscation": False}}, {}, id="stream-options"),
        pytest.param({"tools": [FLAT]}, {"tools": [NESTED]}, id="tools"),
        pytest.param({"tools": [{"type": "mcp"}]}, {"tools": [{"type": "mcp"}]}, id="other-tool"),
        pytest.param({"tool_choice": "required", "parallel_tool_calls": False}, None, id="mode"),
        pytest.param(
            {"tool_choice": NAME},
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
            id="named",
        ),
        pytest.param(
            {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [NAME]}},
            {"tool_choice": allowed("auto", "weather")},
            id="allowed",
        ),
        pytest.param(
            {"tool_choice": {"type": "web_search"}},
            {"tool_choice": {"type": "web_search"}},
            id="other-choice",
        ),
        pytest.param({"text": {"verbosity": "low"}}, {}, id="verbosity"),
        pytest.param(
            {"text": {"format": {"type": "json_object"}}},
            {"response_format": {"type": "json_object"}},
            id="json",
        ),
        pytest.param(
            {
                "text": {
                    "format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}
                }
            },
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": SCHEMA, "strict": True},
                }
            },
            id="schema",
        ),
        pytest.param(
            {"include": [LOGPROBS], "top_logprobs": 2},
            {"logprobs": True, "top_logprobs": 2},
            id="logprobs",
        ),
        pytest.param(
            {"include": ["reasoning.encrypted_content"], "top_logprobs": 0}, {}, id="included"
        ),
    ],
)
def test_chat_is_asked_for_the_same(
    fields: dict[str, object], expected: dict[str, object] | None
) -> None:
    wanted = chat(**{"logprobs": False, "tools": [], **(fields if expected is None else expected)})
    assert translated(**fields) == wanted


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"top_logprobs": 1}, "top_logprobs", id="top-logprobs"),
        pytest.param({"tools": [{"type": "function"}]}, "tools[0].name", id="tool-name"),
        pytest.param(
            {"text": {"format": {"type": "json_schema", "schema": {}}}},
            "text.format.name",
            id="format-name",
        ),
        pytest.param(
            {"text": {"format": {"type": "json_schema", "name": "x"}}},
            "text.format.schema",
            id="format-schema",
        ),
    ],
)
def test_what_only_this_form_can_get_wrong(fields: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        translated(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("param", "message", "told_param", "told_message"),
    [
        pytest.param("top_p", "'top_p' is wrong.", "top_p", "'top_p' is wrong.", id="shared"),
        pytest.param("messages", "'messages' is.", "input", "'input' is.", id="whole"),
        pytest.param("messages[2].content[0]", "x", "input[1].content[0]", "x", id="longest"),
        pytest.param("messages[20]", "'messages[20]'", "input[20]", "'input[20]'", id="not-2"),
        pytest.param("tools[0].function.name", "x", "tools[0].name", "x", id="inside"),
        pytest.param(None, "none", None, "none", id="nothing"),
    ],
)
def test_refusals_are_told_in_own_words(
    param: str | None, message: str, told_param: str | None, told_message: str
) -> None:
    with pytest.raises(InvalidRequest) as refused, told_by(PLACES):
        raise InvalidRequest(message, param=param)
    assert (refused.value.param, refused.value.message) == (told_param, told_message)


def test_a_refusal_keeps_its_kind() -> None:
    with (
        pytest.raises(PromptTooLong, match="12 in the input, 1 in the completion"),
        told_by(PLACES),
    ):
        raise PromptTooLong("(12 in the messages, 1 in the completion)", param="messages")
