"""What the router needs of a model: its tokenizer, its chat template and two numbers.

The Protocols stand here, beside their consumer; `baton.model` fulfils them. Knows no files.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from baton.common.errors import PromptTooLong

INLINE_CHARACTERS_MAX = 16_384
"""Longer texts are tokenized on a thread: about 5 ms, more would stall every other stream."""


class Tokenizer(Protocol):
    @property
    def vocab_size(self) -> int: ...
    @property
    def eos_token_ids(self) -> Sequence[int]: ...
    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]: ...
    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str: ...
    def token_bytes(self, token_id: int) -> bytes: ...
    def is_special(self, token_id: int) -> bool: ...


class ChatRenderer(Protocol):
    @property
    def source(self) -> str:
        """The template's own text; empty where there is none."""

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, object] | None = None,
    ) -> str:
        """The prompt of a conversation, up to where the assistant speaks next, or without
        `add_generation_prompt` to its end. `tools`: as OpenAI describes them; `variables`: the
        request's own for the template. Raises InvalidRequest."""


@dataclass(frozen=True, slots=True)
class TextModel:
    """One served model, as far as text goes."""

    name: str
    created_unix_s: int
    context_length: int  # tokens it was trained for
    vocab_size: int  # rows of its embedding
    tokenizer: Tokenizer
    chat: ChatRenderer
    token_bytes_max: int  # bytes of the longest token

    async def tokenize(
        self, text: str, *, add_special: bool, parse_special: bool, context_length_max: int
    ) -> tuple[int, ...]:
        """Raises PromptTooLong without tokenizing where the text cannot possibly fit."""
        at_least = len(text) // self.token_bytes_max  # a character has at least one byte
        if at_least > context_length_max:
            raise PromptTooLong(
                f"This model's maximum context length is {context_length_max} tokens. However, "
                f"your prompt has {len(text)} characters, which are at least {at_least} tokens."
            )
        if len(text) > INLINE_CHARACTERS_MAX:
            ids = await asyncio.to_thread(self._encode, text, add_special, parse_special)
        else:
            ids = self._encode(text, add_special, parse_special)
        return tuple(ids)

    def _encode(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        return self.tokenizer.encode(text, add_special=add_special, parse_special=parse_special)


def longest_token_bytes(tokenizer: Tokenizer) -> int:
    return max(len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size))
