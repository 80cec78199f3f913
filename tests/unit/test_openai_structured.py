"""`response_format` and `structured_outputs`: what they ask for, and the field a refusal names."""

import json

import pytest
from baton.common.errors import InvalidRequest
from baton.model.grammar import check_grammar
from baton.model.grammar_text import (
    choice_grammar,
    object_grammar,
    regex_grammar,
    rules_grammar,
    schema_grammar,
)
from baton.router.openai.schemas import ChatRequest, parse_body
from baton.router.openai.structured import CHOICES_MAX, asked_form, require_followable

OPEN = {"type": "object", "properties": {"a": {"type": "integer"}}}
SCHEMA = {**OPEN, "additionalProperties": False}
LOOSE = {"type": "array", "uniqueItems": True}  # a keyword that nobody can hold an output to


def chat(**fields: object) -> ChatRequest:
    body = {"model": "m", "messages": [], **fields}
    return parse_body(ChatRequest, json.dumps(body).encode())


def grammar(**fields: object) -> str | None:
    form = asked_form(chat(**fields))
    return None if form is None else form.grammar


def json_schema(schema: object, **fields: object) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **fields}}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"response_format": None},
        {"response_format": {"type": "text"}},
        {"structured_outputs": None},
        {"structured_outputs": {}},
        {"structured_outputs": {"json_object": False}},
        {"structured_outputs": {"disable_any_whitespace": False, "whitespace_pattern": None}},
    ],
)
def test_nothing_is_asked_for(fields: dict[str, object]) -> None:
    assert grammar(**fields) is None


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (
            {"response_format": {"type": "json_object"}},
            object_grammar(),
        ),
        (
            {"structured_outputs": {"json_object": True, "disable_any_whitespace": True}},
            schema_grammar({"type": "object"}, strict=True),
        ),
        (
            {"response_format": {"type": "json_object", "schema": SCHEMA}},
            schema_grammar(SCHEMA, strict=False),
        ),
        (
            {"response_format": json_schema(SCHEMA)},
            schema_grammar(SCHEMA, strict=False),
        ),
        (
            {"response_format": json_schema(SCHEMA, strict=True)},
            schema_grammar(SCHEMA, strict=True),
        ),
        ({"response_format": json_schema(None)}, object_grammar()),
        ({"structured_outputs": {"json": SCHEMA}}, schema_grammar(SCHEMA, strict=True)),
        (
            {"structured_outputs": {"json": json.dumps(SCHEMA)}},
            schema_grammar(SCHEMA, strict=True),
        ),
        ({"structured_outputs": {"json_object": True}}, object_grammar()),
        ({"structured_outputs": {"regex": "a+"}}, regex_grammar("a+")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, choice_grammar(["a", "b"])),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, rules_grammar('start: "a"')),
    ],
)
def test_each_way_to_ask_for_a_form(fields: dict[str, object], found: str) -> None:
    assert grammar(**fields) == found
    check_grammar(found)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "structural_tag"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": json_schema("object")},
            "response_format.json_schema.schema",
        ),
        (
            {
                "response_format": {"type": "json_object"},
                "structured_outputs": {"regex": "a"},
            },
            "structured_outputs",
        ),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": "[1]"}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": "[" * 50_000}}, "structured_outputs.json"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        (
            {"structured_outputs": {"choice": ["x"] * (CHOICES_MAX + 1)}},
            "structured_outputs.choice",
        ),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
        (
            {"structured_outputs": {"regex": "a", "disable_additional_properties": True}},
            "structured_outputs.disable_additional_properties",
        ),
        (
            {"structured_outputs": {"whitespace_pattern": "x"}},
            "structured_outputs.whitespace_pattern",
        ),
        ({"structured_outputs": {"regex": "a*" * 3_000}}, "structured_outputs.regex"),
        ({"response_format": json_schema({"pattern": "a*" * 3_000})}, "response_format"),
        (
            {
                "response_format": json_schema(
                    {"anyOf": [{"patternProperties": {"a*" * 3_000: {}}}]}
                )
            },
            "response_format",
        ),
        ({"structured_outputs": {"grammar": "(("}}, "structured_outputs.grammar"),
    ],
)
def test_what_makes_no_sense_is_named(fields: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        grammar(**fields)
    assert refused.value.param == param
    assert len(refused.value.message) < 300


def test_an_object_takes_no_properties_that_its_schema_does_not_list() -> None:
    assert grammar(response_format=json_schema(OPEN)) == schema_grammar(SCHEMA, strict=False)


async def test_keywords_that_nobody_checks_are_refused_where_the_client_is_strict() -> None:
    loose = asked_form(chat(response_format=json_schema(LOOSE)))
    strict = asked_form(chat(response_format=json_schema(LOOSE, strict=True)))
    assert loose is not None
    assert strict is not None
    await require_followable(loose.grammar, param=loose.param)
    with pytest.raises(InvalidRequest, match="uniqueItems") as refused:
        await require_followable(strict.grammar, param=strict.param)
    assert refused.value.param == "response_format"


def deep(levels: int) -> dict[str, object]:
    schema: dict[str, object] = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize("levels", [60, 200, 400])
def test_a_schema_of_many_levels_is_refused_not_crashed_over(levels: int) -> None:
    with pytest.raises(InvalidRequest, match="levels") as refused:
        asked_form(chat(response_format=json_schema(deep(levels))))
    assert refused.value.param == "response_format"
