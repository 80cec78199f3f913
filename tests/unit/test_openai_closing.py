"""Schemas that are closed: nothing but what they list, and nothing that the open ones refuse."""

import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from baton.model.grammar import Grammars, check_grammar
from baton.model.grammar_text import schema_grammar
from baton.model.json_tokenizer import tokenizer_from_directory
from baton.model.tokens import Tokenizer
from baton.router.openai.closing import closed
from support.random_json import random_output, require_valid, text_of
from support.tiny_tokenizer import VOCAB_SIZE, save_tokenizer

TOKENS_MAX = 400
NUMBER = {"type": "boolean"}
A = {"type": "object", "properties": {"a": NUMBER}, "required": ["a"]}
B = {"type": "object", "properties": {"b": NUMBER}, "required": ["b"]}

CLOSABLE: dict[str, dict[str, Any]] = {
    "one": A,
    "nested": {"type": "object", "properties": {"x": A, "properties": B}, "required": ["x"]},
    "items": {"type": "array", "items": A, "minItems": 1, "maxItems": 2},
    "either": {"anyOf": [A, B]},
    "defined": {"$ref": "#/$defs/a", "$defs": {"a": A}},
}

ENTANGLED: dict[str, dict[str, Any]] = {
    "all-of": {"allOf": [A, B]},
    "all-of-below": {"type": "array", "items": {"allOf": [A, B]}},
    "beside-either": {**A, "anyOf": [B, A]},
    "beside-a-reference": {**A, "$ref": "#/$defs/b", "$defs": {"b": B}},
    "conditions": {**A, "if": B, "then": B},
    "negation": {"not": B, **A},
    "unevaluated": {**A, "unevaluatedProperties": True},
}

OPEN: dict[str, dict[str, Any]] = {
    "any-object": {"type": "object"},
    "requires-what-it-does-not-list": {**A, "required": ["a", "b"]},
    "said": {**A, "additionalProperties": NUMBER},
    "patterns": {**A, "patternProperties": {"^x": NUMBER}},
    "data": {"const": {"properties": {"a": 1}}},
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory: Path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(directory)
    return tokenizer_from_directory(directory)


@pytest.mark.parametrize("name", CLOSABLE)
@pytest.mark.parametrize("seed", range(4))
def test_what_follows_the_closed_schema_follows_the_open_one(
    name: str, seed: int, tokenizer: Tokenizer
) -> None:
    grammars = Grammars(tokenizer, vocab_size=VOCAB_SIZE)
    constraint = grammars.constraint(schema_grammar(closed(CLOSABLE[name]), strict=True))
    output = random_output(constraint, tokenizer.eos_token_ids, random.Random(seed), TOKENS_MAX)
    require_valid(text_of(tokenizer, output), CLOSABLE[name])


@pytest.mark.parametrize("name", ["one", "either", "defined"])
def test_what_is_not_listed_is_no_longer_allowed(name: str) -> None:
    value = {"a": True, "more": 1}
    jsonschema.validate(value, CLOSABLE[name])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, closed(CLOSABLE[name]))


def test_objects_within_objects_are_closed_and_names_are_no_keywords() -> None:
    found: Any = closed(CLOSABLE["nested"])
    assert set(found["properties"]) == {"x", "properties"}
    for part in (found, found["properties"]["x"], found["properties"]["properties"]):
        assert part["additionalProperties"] is False


@pytest.mark.parametrize("name", ENTANGLED)
def test_parts_that_speak_of_one_object_stay_as_they_are(name: str) -> None:
    assert closed(ENTANGLED[name]) == ENTANGLED[name]


@pytest.mark.parametrize("name", OPEN)
def test_what_is_meant_to_be_open_stays_open(name: str) -> None:
    assert closed(OPEN[name]) == OPEN[name]
    check_grammar(schema_grammar(closed(OPEN[name]), strict=True))


def test_the_clients_own_schema_is_not_touched() -> None:
    schema = {"type": "object", "properties": {"x": dict(A)}}
    closed(schema)
    assert "additionalProperties" not in schema
    assert "additionalProperties" not in schema["properties"]["x"]  # type: ignore[index]
