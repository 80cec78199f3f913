"""Grammars as text, out of what clients write: JSON schemas, expressions, choices, rules.

Writes the language that `model.grammar` reads. Knows no vocabulary and checks no grammar; knows no
requests.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

from llguidance import LLMatcher, grammar_from

from baton.common.errors import InvalidRequest

JsonSchema = Mapping[str, object]

ANY_OBJECT: JsonSchema = {"type": "object"}

SPACING: Mapping[str, object] = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
"""JSON as json.dumps writes it. Where space is not the model's to choose, all that stands between
two values is certain before it is drawn; and small models that may put white space put little
else."""

FREE_SPACE = r"\n? {0,16}"
"""Compact, spaced and indented text alike, but only so much of it."""

RULES_CHARS_MAX = 1 << 14
"""Of rules a client writes himself: a chain of some thousand terminals, each made of the next one,
takes half a second to be refused, one of two thousand nine."""

PATTERN_CHARS_MAX = 1 << 12
"""Of one regular expression, whose parts are looked at for one another: 2,000 of them take 15 ms of
a step at worst, 30,000 ten seconds."""


def schema_grammar(schema: JsonSchema, *, strict: bool) -> str:
    """JSON that follows a schema, spaced one way. Where not `strict`, keywords that nobody here can
    hold an output to are passed over; else they make the grammar one that cannot be followed.
    Raises InvalidRequest for expressions that would take too long."""
    return _json(schema, _reading(schema, strict=strict))


def schema_rule(schema: JsonSchema, *, strict: bool) -> str:
    """The same as a part of rules in Lark's language."""
    told = {**schema, "x-guidance": _reading(schema, strict=strict)}
    return "%json " + json.dumps(told, ensure_ascii=False)


def object_grammar() -> str:
    """Any JSON object, however it is spaced: nobody has said what it looks like."""
    return _json(ANY_OBJECT, {"whitespace_pattern": FREE_SPACE})


def _json(schema: JsonSchema, how: Mapping[str, object]) -> str:
    # As text: of the library's own way into JSON, integers beyond 64 bits fall out.
    return LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=how)  # type: ignore[arg-type]


def _reading(schema: JsonSchema, *, strict: bool) -> Mapping[str, object]:
    """How the library is to read a schema. Raises InvalidRequest."""
    _require_short_patterns(schema)
    return {**SPACING, "lenient": not strict}


def _require_short_patterns(schema: JsonSchema) -> None:
    """Raises InvalidRequest for a regular expression anywhere in a schema that is too long."""
    pending: list[object] = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, Mapping):
            _require_short(part.get("pattern"))
            for pattern in _keys(part.get("patternProperties")):
                _require_short(pattern)
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)


def _keys(part: object) -> Iterable[object]:
    return part if isinstance(part, Mapping) else ()


def _require_short(pattern: object) -> None:
    if isinstance(pattern, str) and len(pattern) > PATTERN_CHARS_MAX:
        raise InvalidRequest(f"a pattern has more than {PATTERN_CHARS_MAX} characters")


def regex_grammar(pattern: str) -> str:
    """Raises InvalidRequest for an expression that would take too long."""
    _require_short(pattern)
    return LLMatcher.grammar_from_regex(pattern)


def choice_grammar(choices: Sequence[str]) -> str:
    """One of some texts."""
    return "start: " + " | ".join(json.dumps(text, ensure_ascii=False) for text in choices)


def thoughtful_grammar(grammar: str, opening: str, closing: str, *, begun: bool) -> str:
    """The same behind thoughts, which are any text up to the closing mark; some blank lines may
    follow. Not `begun`: the output opens them itself, or has none."""
    parts = [{"lark_grammar": grammar}]
    if grammar.startswith("{"):
        parts = json.loads(grammar)["grammars"]
    form = {**parts[0], "name": "form"}
    thoughts = "thoughts" if begun else f"({json.dumps(opening)} thoughts)?"
    lead = (
        f"start: {thoughts} @form\n"
        "thoughts: thought GAP?\n"
        f"thought[lazy]: TEXT {json.dumps(closing)}\n"
        "TEXT: /(.|\\n)*/\n"
        "GAP: /\\n{1,2}/\n"
    )
    return json.dumps({"grammars": [{"lark_grammar": lead}, form, *parts[1:]]})


def rules_grammar(rules: str) -> str:
    """Rules in Lark's language, or in llama.cpp's (GBNF). Raises InvalidRequest for neither."""
    if len(rules) > RULES_CHARS_MAX:
        raise InvalidRequest(f"the grammar has more than {RULES_CHARS_MAX} characters")
    try:
        return grammar_from("grammar", rules)
    except ValueError as error:
        raise InvalidRequest("the grammar is neither Lark's nor GBNF") from error
