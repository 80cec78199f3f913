"""What a chat template is given of a conversation in which tools were called."""

from typing import Any

import pytest
from baton.common.errors import InvalidRequest
from baton.router.openai.conversation import TemplateMessage, conversation
from baton.router.openai.tools.use import tool_use
from baton.router.openai.tools.words import in_words
from support.tool_requests import TOOLS, chat_request, hermes_call

USER = {"role": "user", "content": "Weather?"}


def called(name: str, arguments: str | dict[str, Any], **fields: object) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{name}", "type": "function", "function": function, **fields}


CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [called("weather", '{"city":"Paris"}'), called("clock", "{}")],
}
RESULTS = [
    {"role": "tool", "tool_call_id": "call_weather", "name": "weather", "content": "rain"},
    {"role": "tool", "tool_call_id": "call_clock", "content": [{"type": "text", "text": "noon"}]},
]


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def told(*messages: object) -> list[TemplateMessage]:
    return conversation(chat_request(messages=list(messages)).messages)


def test_calls_and_results_have_hugging_faces_form() -> None:
    _, assistant, weather, clock = told(USER, CALLS, *RESULTS)
    first, second = assistant["tool_calls"]
    assert assistant["content"] == ""
    assert first["function"] == {"name": "weather", "arguments": {"city": "Paris"}}
    assert (second["id"], second["type"]) == ("call_clock", "function")
    assert weather == RESULTS[0]
    assert clock == {"role": "tool", "tool_call_id": "call_clock", "content": "noon"}


def test_a_message_without_calls_has_no_key_for_them() -> None:
    plain = {"role": "assistant", "content": "Hm.", "tool_calls": [], "name": "someone"}
    assert told(plain) == [{"role": "assistant", "content": "Hm."}]


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_what_was_thought_is_told_under_both_names(field: str) -> None:
    thought = {"reasoning": "Hm.", "reasoning_content": "Hm."}
    said = {"role": "assistant", "content": "Yes.", field: "Hm."}
    assert told(said) == [{"role": "assistant", "content": "Yes.", **thought}]
    assert told({"role": "assistant", field: "Hm."}) == [
        {"role": "assistant", "content": "", **thought}
    ]
    assert in_words(told(said), ()) == told(said)


def test_only_the_assistant_thinks() -> None:
    assert told({**USER, "reasoning": "Hm."}) == [USER]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        pytest.param({"role": "assistant", "content": None}, "messages[0].content", id="silent"),
        pytest.param({"role": "tool"}, "messages[0].content", id="no-result"),
        pytest.param({"role": "function", "content": "x"}, "messages[0].role", id="legacy-role"),
        pytest.param(
            {"role": "user", "content": "x", "tool_calls": [called("f", "{}")]},
            "messages[0].tool_calls",
            id="called-by-user",
        ),
        pytest.param(
            {"role": "assistant", "tool_calls": [called("f", "{}", type="custom")]},
            "messages[0].tool_calls[0].type",
            id="type",
        ),
        pytest.param(
            {"role": "assistant", "tool_calls": [{"type": "function"}]},
            "messages[0].tool_calls[0].function",
            id="no-function",
        ),
        *(
            pytest.param(
                {"role": "assistant", "tool_calls": [called("f", arguments)]},
                "messages[0].tool_calls[0].function.arguments",
                id=f"arguments-{number}",
            )
            for number, arguments in enumerate(('{"a":' * 200 + "1" + "}" * 200, deep(200)))
        ),
    ],
)
def test_what_is_wrong_is_refused_by_its_field(message: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        told(message)
    assert refused.value.param == param


@pytest.mark.parametrize("arguments", ["", "{", "[]", "null", '{"a": NaN}', "[" * 9_999])
def test_a_call_whose_arguments_were_cut_does_not_end_the_conversation(arguments: str) -> None:
    (message,) = told({"role": "assistant", "tool_calls": [called("f", arguments)]})
    assert message["tool_calls"][0]["function"]["arguments"] == {}


def test_arguments_may_come_as_the_object_they_are() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    bare = {"type": "function", "function": {"name": "g"}}
    (message,) = told({"role": "assistant", "tool_calls": [call, bare]})
    found = [call["function"]["arguments"] for call in message["tool_calls"]]
    assert found == [{"a": 1}, {}]


def test_a_refusal_in_an_earlier_answer_is_what_was_said() -> None:
    refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    assert told(refused) == [{"role": "assistant", "content": "No."}]


def test_in_words_a_conversation_is_text_of_three_roles() -> None:
    user, assistant, results = in_words(told(USER, CALLS, *RESULTS), ())
    assert user == USER
    calls = f"{hermes_call('weather', city='Paris')}\n{hermes_call('clock')}"
    assert assistant == {"role": "assistant", "content": calls}
    assert results == {
        "role": "user",
        "content": "<tool_response>\nrain\n</tool_response>\n"
        "<tool_response>\nnoon\n</tool_response>",
    }


def test_in_words_text_stands_before_its_calls() -> None:
    (assistant,) = in_words(told({**CALLS, "content": "I look."}), ())
    assert assistant["content"].startswith("I look.\n<tool_call>\n")


@pytest.mark.parametrize(
    ("first", "begins"),
    [
        pytest.param([], "You can call", id="none"),
        pytest.param(
            [{"role": "system", "content": "Be brief."}], "Be brief.\n\nYou can", id="one"
        ),
        pytest.param([{"role": "developer", "content": ""}], "You can call", id="empty"),
    ],
)
def test_in_words_the_first_system_message_tells_of_the_tools(
    first: list[object], begins: str
) -> None:
    use = tool_use(chat_request(tools=TOOLS))
    assert use is not None
    system, user = in_words(told(*first, USER), use.functions)
    assert system["role"] == "system"
    assert system["content"].startswith(begins)
    assert '\n{"name": "clock", "parameters": {"type": "object", "properties": {}}}\n' in str(
        system["content"]
    )
    assert user == USER


def test_in_words_what_has_no_tools_stays_as_it_is() -> None:
    plain = told({"role": "system", "content": "Be brief."}, USER)
    assert in_words(plain, ()) == plain
