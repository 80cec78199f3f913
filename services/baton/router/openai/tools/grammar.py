"""The grammar of an answer that may call tools: every call is whole, is allowed, and follows its
function's schema.

Pure. Writes the language that `model.grammar` reads; knows no tokens. The frame of a call is in
pieces no longer than JSON's own: where an answer may be JSON of another kind instead, the reader
goes on with the longest piece that fits, and does not turn back.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from baton.model.grammar_text import schema_rule
from baton.router.openai.closing import closed
from baton.router.openai.tools.syntax import Calling, Syntax
from baton.router.openai.tools.use import Function

CALLS_MAX = 32
"""Of one answer: more than agents ask for at once."""

_WORDS = {"title", "description"}
_VALUES = {"const", "enum", "default", "examples"}  # not schemas, whatever they look like


@dataclass(frozen=True, slots=True)
class JsonText:
    """What an answer that calls nothing must be, where it may not be any text."""

    schema: Mapping[str, Any]
    strict: bool  # to every word


def tool_grammar(calling: Calling, text: JsonText | None, *, reserved: str | None = None) -> str:
    """A grammar that may still be refused: for a schema, or for its size. `reserved`: what no
    answer's text may begin with. Raises InvalidRequest for expressions that would take too long."""
    allowed = calling.use.allowed
    names = [f"call_{index}" for index in range(len(allowed))]
    calls = [
        f"{name}: {_call(calling.syntax, function)}"
        for name, function in zip(names, allowed, strict=True)
    ]
    rules = [
        "%llguidance {}",
        *_answer(calling, text, reserved),
        f"call: {' | '.join(names)}",
        *calls,
    ]
    return "\n".join(rules) + "\n"


def _answer(calling: Calling, text: JsonText | None, reserved: str | None) -> list[str]:
    """Rules for text and triggers; `call` is what stands behind a trigger."""
    syntax, use = calling.syntax, calling.use
    trigger = f"{_quoted(syntax.trigger)} " if syntax.opening else ""
    several = use.parallel and syntax.several
    more = f' ("\\n" {trigger}call){{0,{CALLS_MAX - 1}}}' if several else ""
    if use.required:
        return [f"start: {trigger}call{more}"]
    if text is not None:
        json_text = f"text: {schema_rule(text.schema, strict=text.strict)}"
        return [f"start: {trigger}call{more} | text", json_text]
    unreserved = "" if reserved is None else rf" & ~/\s*{reserved}(.|\n)*/"
    if syntax.accompanied:
        # Lazy: text ends where the first trigger in it does.
        lead = f"lead[lazy]: TEXT {trigger}"
        return [f"start: lead call{more} | TEXT", lead, rf"TEXT: /(.|\n)*/{unreserved}"]
    return ["start: call | TEXT", rf"TEXT: /\s*([^{{\s](.|\n)*)?/{unreserved}"]


def _call(syntax: Syntax, function: Function) -> str:
    key = f'"{syntax.arguments_key}"'
    frame = ["{", '"name"', ": ", f'"{function.name}"', ", ", key, ": "]
    if syntax.opening:
        frame.insert(0, syntax.opening.removeprefix(syntax.trigger))
    arguments = {**_unexplained(closed(function.parameters)), "type": "object"}
    parameters = schema_rule(arguments, strict=function.strict)
    return f"{' '.join(map(_quoted, frame))} {parameters} {_quoted(syntax.tail)}"


def _unexplained(schema: Any) -> Any:
    """Without words for people, which are most of many schemas and count towards the size."""
    if isinstance(schema, list):
        return [_unexplained(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value if key in _VALUES else _unexplained(value)
        for key, value in schema.items()
        if not (key in _WORDS and isinstance(value, str))
    }


def _quoted(text: str) -> str:
    return json.dumps(text)
