"""Grammars: whatever a constraint lets through follows them, in whichever order it is asked."""

import json
import random
from pathlib import Path

import pytest
from baton.common.errors import InvalidRequest
from baton.model.grammar import GRAMMAR_CHARS_MAX, KEPT_MAX, Grammars, check_grammar
from baton.model.grammar_text import (
    RULES_CHARS_MAX,
    choice_grammar,
    object_grammar,
    regex_grammar,
    rules_grammar,
    schema_grammar,
    thoughtful_grammar,
)
from baton.model.json_tokenizer import tokenizer_from_directory
from baton.model.tokens import Tokenizer
from support.random_json import SCHEMAS, allowed_ids, random_output, require_valid, text_of
from support.tiny_tokenizer import EOS_ID, VOCAB_SIZE, save_tokenizer

TOKENS_MAX = 400
PADDED = VOCAB_SIZE + 52  # rows of an embedding that was made larger than the vocabulary


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory: Path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(directory)
    return tokenizer_from_directory(directory)


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer, vocab_size=PADDED)


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special=False, parse_special=False)


def ends_after(grammars: Grammars, tokenizer: Tokenizer, grammar: str, text: str) -> bool:
    """Whether `text` is a whole output of the grammar."""
    allowed = grammars.constraint(grammar).allowed(ids_of(tokenizer, text))
    return allowed is not None and bool(allowed[EOS_ID // 8] >> EOS_ID % 8 & 1)


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_let_through_follows_the_schema(
    name: str, seed: int, grammars: Grammars, tokenizer: Tokenizer
) -> None:
    constraint = grammars.constraint(schema_grammar(SCHEMAS[name], strict=True))
    rng = random.Random(seed)
    output = random_output(constraint, tokenizer.eos_token_ids, rng, TOKENS_MAX)
    assert len(output) < TOKENS_MAX, "white space or a number without an end"
    require_valid(text_of(tokenizer, output), SCHEMAS[name])


VALUE = {"name": "Ann", "age": 31, "tags": ["a", "b"]}


@pytest.mark.parametrize("indent", [None, 2, 4])
@pytest.mark.parametrize("separators", [None, (",", ":")])
def test_an_object_may_be_written_compact_spaced_or_indented(
    indent: int | None,
    separators: tuple[str, str] | None,
    grammars: Grammars,
    tokenizer: Tokenizer,
) -> None:
    text = json.dumps(VALUE, indent=indent, separators=separators)
    assert ends_after(grammars, tokenizer, object_grammar(), text)


def test_white_space_without_end_is_not_let_through(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    constraint = grammars.constraint(object_grammar())
    assert constraint.allowed(ids_of(tokenizer, "{\n   ")) is not None
    assert constraint.allowed(ids_of(tokenizer, "{\n\n")) is None
    assert constraint.allowed(ids_of(tokenizer, "{" + " " * 17)) is None


def test_what_follows_a_schema_is_spaced_one_way(grammars: Grammars, tokenizer: Tokenizer) -> None:
    grammar = schema_grammar(SCHEMAS["person"], strict=True)
    assert ends_after(grammars, tokenizer, grammar, json.dumps(VALUE))
    for other in (json.dumps(VALUE, indent=2), json.dumps(VALUE, separators=(",", ":"))):
        assert not ends_after(grammars, tokenizer, grammar, other)


def test_what_is_certain_is_told_before_it_is_drawn(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    constraint = grammars.constraint(schema_grammar(SCHEMAS["person"], strict=True))

    def certain(text: str) -> str:
        forced = list(constraint.forced(ids_of(tokenizer, text)))
        return text_of(tokenizer, forced)

    assert certain("") == '{"name": "'
    assert certain('{"name": "Al"') == ', "age": '
    assert certain('{"name": "A') == ""
    assert certain('{"name": 3') == "", "no output of the grammar"
    assert certain('{"name": "') == "", "asked for an earlier one"


@pytest.mark.parametrize(
    ("grammar", "whole", "other"),
    [
        (regex_grammar(r"\d{4}-\d{2}"), ["2026-12"], ["2026-1", "26-12", "2026-12 "]),
        (choice_grammar(["yes", "no", 'a "\\\n', "😀é"]), ["yes", 'a "\\\n', "😀é"], ["y", "nope"]),
        (rules_grammar('start: "a" B+ "c"\nB: "b"'), ["abc", "abbbc"], ["ac", "ab"]),
        (rules_grammar('root ::= "a" b+ "c"\nb ::= "b"'), ["abc", "abbbc"], ["ac", "ab"]),
    ],
    ids=["regex", "choice", "lark", "gbnf"],
)
def test_other_ways_to_say_it(
    grammar: str, whole: list[str], other: list[str], grammars: Grammars, tokenizer: Tokenizer
) -> None:
    check_grammar(grammar)
    assert [text for text in whole if not ends_after(grammars, tokenizer, grammar, text)] == []
    assert [text for text in other if ends_after(grammars, tokenizer, grammar, text)] == []


FORMS = {
    "object": (object_grammar(), '{"a": 1}', "no"),
    "schema": (schema_grammar({"type": "integer"}, strict=True), "12", "no"),
    "regex": (regex_grammar("a+"), "aa", "no"),
    "choice": (choice_grammar(["yes", "no"]), "yes", "maybe"),
    "lark": (rules_grammar('start: "x" A\nA: "y"'), "xy", "no"),
    "gbnf": (rules_grammar('root ::= "x" y\ny ::= "y"'), "xy", "no"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("begun", [True, False], ids=["begun", "not-begun"])
def test_any_form_may_stand_behind_thoughts(
    form: tuple[str, str, str], begun: bool, grammars: Grammars, tokenizer: Tokenizer
) -> None:
    plain, right, wrong = form
    grammar = thoughtful_grammar(plain, "<think>", "</think>", begun=begun)
    check_grammar(grammar)
    opening = "" if begun else "<think>"
    thoughts = [f"{opening}{text}</think>" for text in ("", "\nSo: <b> </thin\n", right)]
    whole = [lead + gap + right for lead in thoughts for gap in ("", "\n", "\n\n")]
    if not begun:
        whole.append(right)
    assert [text for text in whole if not ends_after(grammars, tokenizer, grammar, text)] == []
    other = [
        opening,
        f"{opening}{right}",
        thoughts[0],
        thoughts[0] + wrong,
        thoughts[0] * 2 + right,
    ]
    if begun:
        other.append(right)
    assert [text for text in other if ends_after(grammars, tokenizer, grammar, text)] == []


def test_the_end_is_all_that_follows_a_finished_output(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    constraint = grammars.constraint(choice_grammar(["the"]))
    assert allowed_ids(constraint, ids_of(tokenizer, "the")) == [EOS_ID]


def test_special_tokens_are_no_text(grammars: Grammars, tokenizer: Tokenizer) -> None:
    """A control token whose name fits is not a way to write that name."""
    constraint = grammars.constraint(regex_grammar(r"[^a]*"))
    special = {i for i in range(VOCAB_SIZE) if tokenizer.is_special(i)}
    assert special & set(allowed_ids(constraint, [])) == {EOS_ID}


def test_rows_beyond_the_vocabulary_are_never_allowed(grammars: Grammars) -> None:
    constraint = grammars.constraint(regex_grammar(r"(.|\n)*"))
    assert max(allowed_ids(constraint, [])) < VOCAB_SIZE


def test_outputs_may_come_in_any_order(grammars: Grammars, tokenizer: Tokenizer) -> None:
    """As guesses make them: ahead, back, and on another way."""
    grammar = schema_grammar(SCHEMAS["person"], strict=True)
    asked = [
        ids_of(tokenizer, text)
        for text in (
            '{"name": "Al',
            '{"name": "Alice", "a',
            "{",
            '{"name": "Bob"',
            "",
            '{"name": "',
        )
    ]
    fresh = [grammars.constraint(grammar).allowed(output) for output in asked]
    walked = grammars.constraint(grammar)
    assert [walked.allowed(output) for output in asked] == fresh


def test_what_the_grammar_does_not_have_is_told_and_forgotten(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    grammar = choice_grammar(["the fox", "the dog"])
    constraint = grammars.constraint(grammar)
    before = constraint.allowed(ids_of(tokenizer, "the "))
    assert constraint.allowed(ids_of(tokenizer, "the cat")) is None
    assert constraint.allowed([EOS_ID]) is None
    assert constraint.allowed(ids_of(tokenizer, "the ")) == before


def test_an_end_that_was_guessed_is_taken_back(grammars: Grammars, tokenizer: Tokenizer) -> None:
    constraint = grammars.constraint(regex_grammar("a*"))
    some = ids_of(tokenizer, "aaa")
    before = constraint.allowed(some)
    constraint.allowed([*some, EOS_ID])
    assert constraint.allowed(some) == before


def test_an_output_that_costs_too_much_is_told(grammars: Grammars, tokenizer: Tokenizer) -> None:
    schema = {"type": "string", "maxLength": 60_000}
    constraint = grammars.constraint(schema_grammar(schema, strict=True))
    text = ids_of(tokenizer, '"' + "a" * 10_000)
    assert any(constraint.allowed(text[:count]) is None for count in range(len(text)))


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        (schema_grammar({"type": "strin"}, strict=True), "strin"),
        (schema_grammar({"type": "array", "uniqueItems": True}, strict=True), "uniqueItems"),
        (schema_grammar({"$ref": "http://elsewhere/x"}, strict=True), "elsewhere"),
        (regex_grammar("(a"), "unclosed"),
        (rules_grammar("start: nowhere"), "nowhere"),
        ("x" * (GRAMMAR_CHARS_MAX + 1), "characters"),
    ],
)
def test_a_grammar_that_nobody_can_follow_is_refused(
    grammar: str, words: str, grammars: Grammars
) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        check_grammar(grammar)
    assert len(refused.value.message) < 400
    if len(grammar) <= GRAMMAR_CHARS_MAX:  # a worker relies on the router for lengths
        with pytest.raises(InvalidRequest, match=words):
            grammars.constraint(grammar)


@pytest.mark.parametrize("rules", ["", "((((", "root ::= (", "x" * (RULES_CHARS_MAX + 1)])
def test_rules_in_no_language_are_refused(rules: str) -> None:
    with pytest.raises(InvalidRequest):
        rules_grammar(rules)


def test_a_keyword_that_nobody_checks_is_passed_over_where_that_is_allowed() -> None:
    check_grammar(schema_grammar({"type": "array", "uniqueItems": True}, strict=False))


def test_clients_do_not_choose_how_a_schema_is_read(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    schema = {**SCHEMAS["person"], "x-guidance": {"key_separator": "=", "lenient": True}}
    grammar = schema_grammar(schema, strict=True)
    assert ends_after(grammars, tokenizer, grammar, '{"name": "Ann", "age": 31}')


def test_only_so_many_grammars_are_kept(grammars: Grammars, tokenizer: Tokenizer) -> None:
    for number in range(3 * KEPT_MAX):
        grammars.constraint(choice_grammar([str(number)]))
    assert len(grammars._kept) == KEPT_MAX
    assert ends_after(grammars, tokenizer, choice_grammar(["0"]), "0")
