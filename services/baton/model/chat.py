"""Turns chat messages into one prompt with the model's own jinja template, in a sandbox.

The dialect is transformers': the same blocks, filters and functions. Knows templates and messages;
knows no tokens and no HTTP. Time comes in as a function.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from baton.common.errors import BatonError, InvalidRequest, ModelFileError

PROMPT_CHARS_MAX = 16 << 20  # no supported model's context holds as many characters
TEMPLATE_CHARS_MAX = 1 << 20  # the longest published templates have some tens of kilobytes
WORDS_CHARS_MAX = 500  # of a template's own words in an error
NO_TEMPLATE = "this model has no chat template: chat is not available, use /v1/completions"


class ChatTemplate:
    """A compiled template. `template` None: every render is refused, with a way out."""

    def __init__(
        self,
        template: str | None,
        *,
        bos_token: str,
        eos_token: str,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """Raises ModelFileError for a template that is no jinja."""
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._template = None if template is None else _compiled(template, now)
        self.source = template or ""  # jinja

    @property
    def available(self) -> bool:
        return self._template is not None

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, object] | None = None,
    ) -> str:
        """The prompt, special tokens written out. `variables`: the request's own for the template.

        Raises InvalidRequest (param "messages") where the template refuses the messages or there is
        none, ModelFileError where the template does what no template may.
        """
        if self._template is None:
            raise InvalidRequest(NO_TEMPLATE, param="messages")
        context = {
            **(variables or {}),
            **self._tokens,
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            return _bounded(self._template.generate(context))
        except BatonError:
            raise
        except SecurityError as error:
            raise ModelFileError(
                f"the chat template breaks the sandbox: {_words(error)}"
            ) from error
        except Exception as error:  # a template is a program: anything may come out of it
            raise InvalidRequest(
                f"the chat template cannot take these messages: {_words(error)}", param="messages"
            ) from error


class _GenerationBlock(Extension):
    """`{% generation %}` marks an answer for training; for a prompt it is just its content."""

    tags = {"generation"}  # noqa: RUF012  # how jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def _compiled(template: str, now: Callable[[], datetime]) -> jinja2.Template:
    if len(template) > TEMPLATE_CHARS_MAX:
        raise ModelFileError(f"the chat template is longer than {TEMPLATE_CHARS_MAX} characters")
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda pattern: now().strftime(pattern)
    try:
        return environment.from_string(template)
    except (jinja2.TemplateError, RecursionError) as error:
        raise ModelFileError(f"the chat template is broken: {_words(error)}") from error


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: jinja's own filter would escape HTML characters."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: object) -> NoReturn:
    raise InvalidRequest(
        f"the chat template refuses the messages: {_words(message)}", param="messages"
    )


def _words(said: object) -> str:
    return str(said)[:WORDS_CHARS_MAX]


def _bounded(pieces: Iterable[str]) -> str:
    kept, length = [], 0
    for piece in pieces:
        length += len(piece)
        if length > PROMPT_CHARS_MAX:
            raise InvalidRequest(
                f"the prompt is longer than {PROMPT_CHARS_MAX} characters", param="messages"
            )
        kept.append(piece)
    return "".join(kept)
