"""What form an answer must have: `response_format` and `structured_outputs` to a grammar.

Pure, but for the check, which reads a grammar as workers will. Knows no prompts and no tools.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from baton.common.errors import InvalidRequest
from baton.model.grammar import check_grammar
from baton.model.grammar_text import (
    ANY_OBJECT,
    choice_grammar,
    object_grammar,
    regex_grammar,
    rules_grammar,
    schema_grammar,
)
from baton.router.openai.closing import closed
from baton.router.openai.nesting import DEPTH_MAX, too_deep
from baton.router.openai.schemas import Generation, ResponseFormat, StructuredOutputs

CHOICES_MAX = 1_024  # of `structured_outputs.choice`: labels, of which there are dozens


@dataclass(frozen=True, slots=True)
class Form:
    """What the whole answer must be."""

    param: str  # the field that asks for it
    grammar: str
    schema: Mapping[str, object] | None = None  # where the answer is JSON: what it follows
    strict: bool = True  # whether to every word of the schema


def asked_form(request: Generation) -> Form | None:
    """None where the request leaves it open. Raises InvalidRequest; whether a worker can follow the
    grammar is not checked here."""
    form = _of_response_format(request.response_format)
    other = _of_structured_outputs(request.structured_outputs)
    if form is not None and other is not None:
        message = "'response_format' and 'structured_outputs' exclude each other."
        raise InvalidRequest(message, param="structured_outputs")
    return form or other


async def require_followable(grammar: str, *, param: str) -> None:
    """Raises InvalidRequest, naming the field, for a grammar that no worker can follow."""
    with naming(param):
        await asyncio.to_thread(check_grammar, grammar)


@contextmanager
def naming(param: str) -> Iterator[None]:
    """What is refused within is refused for this field of the request."""
    try:
        yield
    except InvalidRequest as error:
        raise InvalidRequest(f"'{param}': {error.message}.", param=param) from None


def _of_response_format(asked: ResponseFormat | None) -> Form | None:
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        if asked.schema is not None:
            return _json("response_format", asked.schema, strict=False)
        return _any_object("response_format")
    if asked.type != "json_schema":
        message = "'response_format.type' must be one of text, json_object, json_schema."
        raise InvalidRequest(message, param="response_format.type")
    if asked.json_schema is None:
        message = "'response_format.json_schema' must be given."
        raise InvalidRequest(message, param="response_format.json_schema")
    schema, strict = asked.json_schema.schema, bool(asked.json_schema.strict)
    if schema is None:
        return _any_object("response_format")
    return _json("response_format", schema, strict=strict)


def _of_structured_outputs(asked: StructuredOutputs | None) -> Form | None:
    """vLLM's field: one of its ways to say it."""
    if asked is None:
        return None
    name = "structured_outputs"
    if asked.disable_additional_properties:
        field = f"{name}.disable_additional_properties"
        raise InvalidRequest(f"'{field}' is not supported by this server.", param=field)
    forms = []
    if asked.json is not None:
        forms.append(_json(name, _schema(asked.json), strict=True))
    if asked.json_object and asked.disable_any_whitespace:
        forms.append(_json(name, ANY_OBJECT, strict=True))
    elif asked.json_object:
        forms.append(_any_object(name))
    if asked.regex is not None:
        with naming(f"{name}.regex"):
            forms.append(Form(name, regex_grammar(asked.regex)))
    if asked.choice is not None:
        forms.append(Form(name, choice_grammar(_choices(asked.choice))))
    if asked.grammar is not None:
        with naming(f"{name}.grammar"):
            forms.append(Form(name, rules_grammar(asked.grammar)))
    if len(forms) > 1:
        message = f"'{name}' may hold one of json, json_object, regex, choice and grammar."
        raise InvalidRequest(message, param=name)
    return forms[0] if forms else None


def _any_object(param: str) -> Form:
    return Form(param, object_grammar(), ANY_OBJECT)


def _json(param: str, schema: Mapping[str, object], *, strict: bool) -> Form:
    if too_deep(schema):
        message = f"The schema of '{param}' may have at most {DEPTH_MAX} levels."
        raise InvalidRequest(message, param=param)
    followed = closed(schema)
    with naming(param):
        return Form(param, schema_grammar(followed, strict=strict), followed, strict)


def _schema(given: dict[str, object] | str) -> Mapping[str, object]:
    """A schema as an object, or as the text of one."""
    if not isinstance(given, str):
        return given
    try:
        return msgspec.json.decode(given, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError):
        message = "'structured_outputs.json' must be a JSON schema."
        raise InvalidRequest(message, param="structured_outputs.json") from None


def _choices(texts: Sequence[str]) -> Sequence[str]:
    if not 0 < len(texts) <= CHOICES_MAX:
        message = f"'structured_outputs.choice' must have 1 to {CHOICES_MAX} texts."
        raise InvalidRequest(message, param="structured_outputs.choice")
    return texts
