"""What a request may say about tools, what it then means, and what is refused by its field."""

from typing import Any

import pytest
from baton.common.errors import InvalidRequest
from baton.router.openai.nesting import DEPTH_MAX
from baton.router.openai.tools.syntax import HERMES, IN_WORDS, LLAMA3, Syntax, syntax_of
from baton.router.openai.tools.use import TOOLS_MAX, ToolUse, tool_use
from support.tool_models import LLAMA_LIKE, QWEN_LIKE, TAGS_OF_OTHERS, TOOLLESS
from support.tool_requests import NAMED_CLOCK, TOOLS, WEATHER, allowed, chat_request


def use(**fields: object) -> ToolUse:
    found = tool_use(chat_request(**{"tools": TOOLS, **fields}))
    assert found is not None
    return found


def names(found: ToolUse) -> list[str]:
    return [function.name for function in found.allowed]


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels - 1):
        schema = {"not": schema}
    return {**schema, "type": "object"}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"tools": None}, id="null"),
        pytest.param({"tools": []}, id="empty"),
        pytest.param({"tools": [], "tool_choice": "auto"}, id="auto-of-none"),
        pytest.param({"tool_choice": "none"}, id="none-of-none"),
        pytest.param({"tools": TOOLS, "tool_choice": "none"}, id="none"),
        pytest.param({"parallel_tool_calls": False}, id="parallel-alone"),
    ],
)
def test_no_tool_may_be_called(fields: dict[str, Any]) -> None:
    assert tool_use(chat_request(**fields)) is None


@pytest.mark.parametrize(
    ("choice", "callable_names", "required", "parallel"),
    [
        pytest.param(None, ["weather", "clock"], False, True, id="absent"),
        pytest.param("auto", ["weather", "clock"], False, True, id="auto"),
        pytest.param("required", ["weather", "clock"], True, True, id="required"),
        pytest.param(NAMED_CLOCK, ["clock"], True, False, id="named"),
        pytest.param(allowed("auto", "clock"), ["clock"], False, True, id="allowed"),
        pytest.param(
            allowed("required", "clock", "weather", "clock"),
            ["weather", "clock"],
            True,
            True,
            id="allowed-required",
        ),
    ],
)
def test_a_choice_says_what_may_and_what_must_be_called(
    choice: object, callable_names: list[str], required: bool, parallel: bool
) -> None:
    found = use(tool_choice=choice)
    assert names(found) == callable_names
    assert (found.required, found.parallel) == (required, parallel)
    assert [function.name for function in found.functions] == ["weather", "clock"]


def test_parallel_calls_can_be_switched_off() -> None:
    assert not use(parallel_tool_calls=False).parallel


def test_functions_are_described_to_templates_as_they_came_but_never_without_parameters() -> None:
    weather, clock = use().functions
    assert weather.definition == WEATHER
    assert list(weather.definition["function"]) == ["name", "description", "parameters"]
    parameters = {"type": "object", "properties": {}}
    assert clock.definition["function"] == {"name": "clock", "parameters": parameters}


def function(**fields: object) -> list[Any]:
    return [{"type": "function", "function": {"name": "f", **fields}}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"tools": {}}, "tools", id="no-list"),
        pytest.param({"tools": function() * 2}, "tools", id="twice"),
        pytest.param({"tools": function() * (TOOLS_MAX + 1)}, "tools", id="many"),
        pytest.param({"tools": [{"type": "custom"}]}, "tools[0].type", id="type"),
        pytest.param({"tools": [{}]}, "tools[0].type", id="no-type"),
        pytest.param({"tools": [{"type": "function"}]}, "tools[0].function", id="no-function"),
        pytest.param({"tools": function(name="a b")}, "tools[0].function.name", id="name"),
        pytest.param({"tools": function(name="")}, "tools[0].function.name", id="no-name"),
        pytest.param({"tools": function(name="n" * 65)}, "tools[0].function.name", id="long-name"),
        pytest.param({"tools": function(name='"')}, "tools[0].function.name", id="quote"),
        pytest.param(
            {"tools": function(parameters={"type": "string"})},
            "tools[0].function.parameters",
            id="no-object",
        ),
        pytest.param(
            {"tools": function(parameters=nested(DEPTH_MAX + 1))},
            "tools[0].function.parameters",
            id="nested",
        ),
        pytest.param({"tool_choice": "required"}, "tool_choice", id="choice-alone"),
        pytest.param({"tool_choice": NAMED_CLOCK}, "tool_choice", id="named-alone"),
        pytest.param({"tools": TOOLS, "tool_choice": "any"}, "tool_choice", id="choice"),
        pytest.param({"tools": TOOLS, "tool_choice": 3}, "tool_choice", id="choice-number"),
        pytest.param({"tools": function(), "tool_choice": NAMED_CLOCK}, "tool_choice", id="named"),
        pytest.param(
            {"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice", id="nameless"
        ),
        pytest.param(
            {"tools": TOOLS, "tool_choice": allowed("auto", "other")}, "tool_choice", id="allowed"
        ),
        pytest.param(
            {"tools": TOOLS, "tool_choice": allowed("auto")},
            "tool_choice.allowed_tools.tools",
            id="none-allowed",
        ),
        pytest.param(
            {"tools": TOOLS, "tool_choice": allowed("none", "clock")},
            "tool_choice.allowed_tools.mode",
            id="allowed-mode",
        ),
        pytest.param({"functions": function()}, "functions", id="functions"),
    ],
)
def test_what_is_wrong_is_refused_by_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        tool_use(chat_request(**fields))
    assert refused.value.param == param


def test_a_schema_may_be_as_deep_as_the_limit() -> None:
    assert use(tools=function(parameters=nested(DEPTH_MAX))).functions


@pytest.mark.parametrize(
    ("template", "syntax"),
    [
        pytest.param(QWEN_LIKE, HERMES, id="qwen"),
        pytest.param(LLAMA_LIKE, LLAMA3, id="llama"),
        pytest.param(TAGS_OF_OTHERS, IN_WORDS, id="tags-of-others"),
        pytest.param(TOOLLESS, IN_WORDS, id="toolless"),
        pytest.param("", IN_WORDS, id="no-template"),
    ],
)
def test_the_syntax_is_the_one_that_the_template_shows(template: str, syntax: Syntax) -> None:
    assert syntax_of(template) == syntax
