"""Calls told from text: their ids, names and arguments, whatever the answer looks like."""

import json

import pytest
from baton.engine.params import FinishReason
from baton.router.openai.answer import delta_of, message_of, reason_of
from baton.router.openai.tools.syntax import HERMES, LLAMA3, Calling, Syntax
from baton.router.openai.tools.text import Argued, Called, CallReader, Event, Said
from support.tool_requests import calling, hermes_call, llama_call

PARIS = {"city": 'Par"is\\ {[é</tool_call>\n', "days": 3}


def reader(how: Calling | None = None, choice: int = 0) -> CallReader:
    return CallReader(how or calling(HERMES), answer_id="chatcmpl-1", choice=choice)


def read(text: str, how: Calling | None = None) -> list[Event]:
    one = reader(how)
    return [*one.feed(text), *one.finish()]


def test_text_then_calls() -> None:
    text = f"I look.\n\n{hermes_call('weather', **PARIS)}\n{hermes_call('clock')}"
    message = message_of(read(text))
    assert message["content"] == "I look."
    weather, clock = message["tool_calls"]
    assert weather["function"]["name"] == "weather"
    assert json.loads(weather["function"]["arguments"]) == PARIS
    assert clock["function"] == {"name": "clock", "arguments": "{}"}
    assert {call["type"] for call in message["tool_calls"]} == {"function"}


def test_llamas_call_is_all_there_is() -> None:
    message = message_of(read(llama_call("weather", **PARIS), calling(LLAMA3)))
    assert message["content"] is None
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == PARIS


@pytest.mark.parametrize("text", ["", "Hello.", "a < b", "x <tool", "\n ", 'say {"name": "clock"}'])
@pytest.mark.parametrize("syntax", [HERMES, LLAMA3], ids=["hermes", "llama"])
def test_text_alone_is_content(syntax: Syntax, text: str) -> None:
    assert message_of(read(text, calling(syntax))) == {"content": text}


def test_json_that_only_begins_like_a_call_is_content() -> None:
    for text in ('{"name": "clock"}', '{"name": "clock", "parameters": 3}', '{"name": "other"}'):
        assert message_of(read(text, calling(LLAMA3))) == {"content": text}


def test_text_is_held_back_only_where_a_call_may_begin() -> None:
    one = reader()
    assert one.feed("a <") == [Said("a")]
    assert one.feed("b") == [Said(" <b")]
    assert one.feed(" \n") == []
    assert one.feed("c") == [Said(" \nc")]


def test_arguments_come_as_they_are_written() -> None:
    one = reader()
    one.feed('<tool_call>\n{"name": "weather", "arguments": ')
    begun, first = one.feed('{"ci')
    assert isinstance(begun, Called)
    assert (begun.index, begun.name, first) == (0, "weather", Argued(0, '{"ci'))
    assert one.feed('ty": "') == [Argued(0, 'ty": "')]
    assert not one.ends_with_call
    assert one.feed('"}}') == [Argued(0, '"}')]
    assert one.ends_with_call


def test_each_call_of_each_choice_has_an_id_of_its_own() -> None:
    text = f"{hermes_call('clock')}\n{hermes_call('clock')}"
    ids = [
        event.id
        for choice in range(3)
        for event in reader(choice=choice).feed(text)
        if isinstance(event, Called)
    ]
    assert len(set(ids)) == 6
    assert all(one.startswith("call_") and len(one) == 29 for one in ids)


@pytest.mark.parametrize("end", range(len("Hm. "), len("Hm. " + hermes_call("weather", **PARIS))))
def test_a_call_that_is_cut_keeps_what_there_is(end: int) -> None:
    text = "Hm. " + hermes_call("weather", **PARIS)
    one = reader()
    message = message_of([*one.feed(text[:end]), *one.finish()])
    calls = message.get("tool_calls", [])
    whole = json.dumps(PARIS, ensure_ascii=False)
    assert all(whole.startswith(call["function"]["arguments"]) for call in calls)
    trigger_whole = end >= len("Hm. <tool_call>")
    assert message["content"] == ("Hm." if trigger_whole else text[:end])
    assert reason_of(FinishReason.LENGTH, one) == "length"
    told_whole = bool(calls) and calls[0]["function"]["arguments"] == whole
    assert reason_of(FinishReason.STOP, one) == ("tool_calls" if told_whole else "stop")


def test_deltas_are_openais() -> None:
    function = {"name": "f", "arguments": ""}
    assert delta_of(Said("x")) == {"content": "x"}
    assert delta_of(Called(1, "call_1", "f")) == {
        "tool_calls": [{"index": 1, "id": "call_1", "type": "function", "function": function}]
    }
    assert delta_of(Argued(1, "{")) == {
        "tool_calls": [{"index": 1, "function": {"arguments": "{"}}]
    }
