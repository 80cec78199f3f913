"""Which answers a request with tools lets the model give: asked of the library that workers ask."""

from typing import Any

import pytest
from baton.common.errors import InvalidRequest
from baton.model.grammar import check_grammar
from baton.model.grammar_text import thoughtful_grammar
from baton.router.openai.tools.grammar import CALLS_MAX, JsonText, tool_grammar
from baton.router.openai.tools.syntax import HERMES, IN_WORDS, LLAMA3
from support.followed_grammars import begins, follows
from support.tool_requests import NAMED_CLOCK, allowed, calling, hermes_call, llama_call

PARIS = hermes_call("weather", city="Paris", days=3)
CLOCK = hermes_call("clock")
TRAP = hermes_call("weather", city='"}</tool_call>\n{é')
PERSON = JsonText(
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "parameters": {"type": "integer"}},
        "required": ["name"],
        "additionalProperties": False,
    },
    strict=True,
)


def grammar(syntax: Any = HERMES, text: JsonText | None = None, **fields: object) -> str:
    return tool_grammar(calling(syntax, **fields), text)


@pytest.mark.parametrize("syntax", [HERMES, LLAMA3], ids=["hermes", "llama"])
def test_thoughts_may_speak_of_calls(syntax: Any) -> None:
    call = hermes_call("clock") if syntax is HERMES else llama_call("clock")
    reserved = tool_grammar(calling(syntax), None, reserved="<think>")
    thoughtful = thoughtful_grammar(reserved, "<think>", "</think>", begun=False)
    thoughts = f"<think>Either <tool_call> {{ or {call}, or none.</think>\n\n"
    answers = [thoughts + call, f"{thoughts}Noon.", call, "Noon.", "", "a <think> b"]
    assert [text for text in answers if not follows(thoughtful, text)] == []
    others = [thoughts + call[:-1], "<think>Hm.", f"<think>{call}", " <think>Hm.</think>Noon."]
    assert [text for text in others if follows(thoughtful, text)] == []


def function(parameters: object, **fields: object) -> list[Any]:
    return [{"type": "function", "function": {"name": "f", "parameters": parameters, **fields}}]


@pytest.mark.parametrize("syntax", [HERMES, IN_WORDS], ids=["hermes", "in-words"])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("Hello: a < b\n", id="text"),
        pytest.param("<tool_cal", id="almost-a-tag"),
        pytest.param(PARIS, id="call"),
        pytest.param(f"I look.\n\n{PARIS}", id="text-and-call"),
    ],
)
def test_auto_is_text_then_a_call(syntax: Any, text: str) -> None:
    assert follows(grammar(syntax), text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("<tool_call>", id="unfinished"),
        pytest.param("so <tool_call> is a tag", id="no-call"),
        pytest.param(PARIS[:-1], id="unclosed"),
        pytest.param(f"{PARIS} and", id="text-behind"),
        pytest.param(f"{PARIS}\n", id="line-behind"),
        pytest.param(PARIS + PARIS, id="on-one-line"),
        pytest.param(hermes_call("other"), id="unknown"),
        pytest.param(hermes_call("weather"), id="argument-missing"),
        pytest.param(hermes_call("weather", city=3), id="argument-of-other-type"),
        pytest.param(hermes_call("weather", city="x", color="red"), id="argument-unknown"),
        pytest.param(hermes_call("clock", zone="UTC"), id="argument-of-none"),
        pytest.param(PARIS.replace('": ', '":  '), id="white-space"),
        pytest.param(PARIS.replace("Paris", "Par\nis"), id="raw-line-end"),
    ],
)
def test_auto_is_nothing_else(text: str) -> None:
    assert not follows(grammar(), text)


@pytest.mark.parametrize(("syntax", "several"), [(HERMES, True), (IN_WORDS, False)])
def test_only_a_model_that_knows_calls_makes_several(syntax: Any, several: bool) -> None:
    for choice in ("auto", "required"):
        calls = f"{CLOCK}\n{CLOCK}\n{TRAP}"
        assert follows(grammar(syntax, tool_choice=choice), calls) is several


def test_a_call_begun_must_be_made() -> None:
    assert begins(grammar(), "x <tool_call>\n{")
    assert not begins(grammar(), "x <tool_call>\n\n")


@pytest.mark.parametrize("text", [PARIS, CLOCK, f"{PARIS}\n{CLOCK}"])
def test_required_is_calls(text: str) -> None:
    assert follows(grammar(tool_choice="required"), text)


@pytest.mark.parametrize("text", ["", "Hello.", f"x{PARIS}", f"\n{PARIS}", f"{PARIS}\n"])
def test_required_is_nothing_but_calls(text: str) -> None:
    assert not follows(grammar(tool_choice="required"), text)


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_an_answer_has_only_so_many_calls(choice: str) -> None:
    """A small model that may call once more does, until its tokens are spent."""
    assert follows(grammar(tool_choice=choice), "\n".join([CLOCK] * CALLS_MAX))
    assert not follows(grammar(tool_choice=choice), "\n".join([CLOCK] * (CALLS_MAX + 1)))


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_without_parallel_calls_there_is_one(choice: str) -> None:
    single = grammar(tool_choice=choice, parallel_tool_calls=False)
    assert follows(single, PARIS)
    assert not begins(single, f"{PARIS}\n")


def test_a_named_function_is_called_once() -> None:
    named = grammar(tool_choice=NAMED_CLOCK)
    assert follows(named, CLOCK)
    assert not begins(named, hermes_call("weather")[:30])
    assert not begins(named, f"{CLOCK}\n")


def test_only_what_is_allowed_can_be_called() -> None:
    subset = grammar(tool_choice=allowed("auto", "clock"))
    assert follows(subset, CLOCK)
    assert not follows(subset, PARIS)


@pytest.mark.parametrize(
    "text", ["", " Hello {", "\n", llama_call("clock"), llama_call("weather", city="x", days=1)]
)
def test_llamas_auto_is_text_or_one_call(text: str) -> None:
    assert follows(grammar(LLAMA3), text)


@pytest.mark.parametrize(
    "text",
    ["{", " {}", "{}", llama_call("weather"), llama_call("clock") + " ", llama_call("clock") * 2],
)
def test_llamas_auto_is_nothing_else(text: str) -> None:
    assert not follows(grammar(LLAMA3), text)


def test_llamas_required_is_one_call() -> None:
    required = grammar(LLAMA3, tool_choice="required")
    assert follows(required, llama_call("clock"))
    assert not begins(required, "Hello")


@pytest.mark.parametrize(
    ("syntax", "call"),
    [(HERMES, CLOCK), (LLAMA3, llama_call("clock"))],
    ids=["hermes", "llama"],
)
def test_where_text_must_be_json_it_is_that_or_calls(syntax: Any, call: str) -> None:
    either = grammar(syntax, PERSON)
    assert follows(either, call)
    # Two that begin as a call of Llama's does.
    assert follows(either, '{"name": "clock"}')
    assert follows(either, '{"name": "clock", "parameters": 3}')
    assert not begins(either, "Hello")
    assert not follows(either, "{}")
    assert not follows(grammar(syntax, PERSON, tool_choice="required"), '{"name": "clock"}')


def test_schemas_keep_their_meaning_inside_a_call() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    referring = grammar(tools=function({"$ref": "#/$defs/node", "$defs": {"node": node}}))
    assert follows(referring, hermes_call("f", next={"next": {}}))
    assert not follows(referring, hermes_call("f", next=3))
    odd = {'a "b" // #': {"enum": ["\n/", "é\u2028"]}}
    quoted = grammar(tools=function({"type": "object", "properties": odd}))
    assert follows(quoted, hermes_call("f", **{'a "b" // #': "\n/"}))


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"additionalProperties": {"type": "integer"}}, id="additional"),
        pytest.param({"anyOf": [{"properties": {"a": {"type": "integer"}}}]}, id="any-of"),
        pytest.param({"properties": {}, "patternProperties": {"a": {"type": "integer"}}}, id="a"),
    ],
)
def test_a_schema_that_says_where_properties_come_from_stays_open(parameters: object) -> None:
    opened = grammar(tools=function(parameters))
    assert follows(opened, hermes_call("f", a=1))
    assert not follows(opened, hermes_call("f", a="x"))
    assert not begins(opened, '<tool_call>\n{"name": "f", "arguments": 1')


def test_words_for_people_take_no_room_but_values_and_names_like_them_stay() -> None:
    words = {"title": "T" * 500, "description": "D" * 500}
    value = {"title": "x"}
    properties = {"title": {"type": "integer", **words}, "description": {"const": value, **words}}
    schema = {"properties": properties, "required": list(properties), **words}
    explained = grammar(tools=function(schema))
    assert len(explained) < 600
    assert follows(explained, hermes_call("f", title=1, description=value))
    assert not follows(explained, hermes_call("f", title=1, description={}))


def test_a_function_that_lists_no_arguments_takes_none_and_one_without_a_list_takes_any() -> None:
    assert not begins(grammar(tools=function(None)), '<tool_call>\n{"name": "f", "arguments": {"')
    assert follows(grammar(tools=function({"type": "object"})), hermes_call("f", a=[1]))


UNKNOWN_KEYWORD = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}


def test_a_keyword_nobody_can_honour_is_passed_over() -> None:
    assert follows(grammar(tools=function(UNKNOWN_KEYWORD)), hermes_call("f", a=[1, 1]))


@pytest.mark.parametrize(
    "tools",
    [
        pytest.param(function(UNKNOWN_KEYWORD, strict=True), id="unknown-keyword-strictly"),
        pytest.param(function({"properties": {"a": {"type": "strin"}}}), id="unknown-type"),
        pytest.param(function({"properties": {"a": {"$ref": "http://x/y"}}}), id="elsewhere"),
        pytest.param(function({"properties": 3}), id="no-schema"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused(tools: object) -> None:
    with pytest.raises(InvalidRequest):
        check_grammar(grammar(tools=tools))


def test_what_clients_send_for_the_library_itself_is_dropped() -> None:
    own = {"type": "object", "properties": {}, "x-guidance": {"whitespace_flexible": True}}
    assert not begins(grammar(tools=function(own)), '<tool_call>\n{"name": "f", "arguments": { ')


def test_an_expression_that_would_take_too_long_is_refused() -> None:
    """Its parts are looked at for one another, in the steps of everybody."""
    long = {"type": "object", "properties": {"a": {"type": "string", "pattern": "a*" * 3_000}}}
    with pytest.raises(InvalidRequest, match="pattern"):
        grammar(tools=function(long))
