"""How a model writes its calls, told from its chat template, and the bounds of what it may write.

Pure. Knows texts; knows no grammars and no answers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from baton.router.openai.tools.use import ToolUse


@dataclass(frozen=True, slots=True)
class Syntax:
    """A call is `opening`, a JSON object of name and arguments as `json.dumps` spaces it, and
    `closing`."""

    opening: str
    arguments_key: str
    closing: str
    accompanied: bool  # text may stand before a call
    several: bool  # calls may stand behind it, each on a line of its own
    in_template: bool  # the chat template itself tells of tools, calls and results

    @property
    def trigger(self) -> str:
        """What begins a call and, where it may, no other text."""
        return self.opening.rstrip() or "{"

    def head(self, name: str) -> str:
        """All of a call that stands before its arguments."""
        return f'{self.opening}{{"name": "{name}", "{self.arguments_key}": '

    @property
    def tail(self) -> str:
        return "}" + self.closing

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        return self.head(name) + json.dumps(arguments, ensure_ascii=False) + self.tail


HERMES = Syntax(
    *("<tool_call>\n", "arguments", "\n</tool_call>"),
    accompanied=True,
    several=True,
    in_template=True,
)
"""Qwen's since 2.5, Nous Hermes', and what many learned from them."""

LLAMA3 = Syntax("", "parameters", "", accompanied=False, several=False, in_template=True)
"""Llama 3.1's and 3.2's: the whole answer is one call."""

IN_WORDS = Syntax(
    *("<tool_call>\n", "arguments", "\n</tool_call>"),
    accompanied=True,
    several=False,
    in_template=False,
)
"""For every other model: the prompt explains, and the grammar sees to it. One call at a time: a
model that was never shown calls repeats its first until the tokens are spent."""


@dataclass(frozen=True, slots=True)
class Calling:
    """What the calls of one answer look like, and which they may be."""

    syntax: Syntax
    use: ToolUse


def syntax_of(template: str) -> Syntax:
    """By what a template shows its model as an example. Those that show another syntax in the same
    tags, or none, are not used for tools."""
    shown = template.replace('\\"', '"').replace("\\n", "\n")
    if "tools" in shown:
        if '<tool_call>\n{"name"' in shown:
            return HERMES
        if '{"name": function name, "parameters": ' in shown:
            return LLAMA3
    return IN_WORDS
