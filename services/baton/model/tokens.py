"""Text to token ids and back, whichever file format told the vocabulary.

Knows one vocabulary; knows no requests and no streaming: the router joins `token_bytes` itself.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import tokenizers

from baton.common.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a model file says of its tokens, apart from how text is cut into them."""

    token_bytes: tuple[bytes, ...]  # by id: what the token adds to a text
    special_ids: frozenset[int]
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]  # every token that ends a turn or a text, the file's own first
    chat_template: str | None
    strips_leading_space: bool  # SentencePiece: encode puts a space before a text, decode drops it


class Tokenizer:
    """A vocabulary with its way to cut text. Calls may come from several threads."""

    def __init__(self, backend: tokenizers.Tokenizer, vocabulary: Vocabulary) -> None:
        """`backend` matches special tokens in text and, asked for it, adds begin and end tokens."""
        self._backend = backend
        self._vocabulary = vocabulary

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of a text. `add_special`: with the begin and end tokens the model wants.
        `parse_special`: "<|im_start|>" in the text is the control token, else plain characters.

        Raises InvalidRequest for text that is no Unicode.
        """
        backend = self._backend if parse_special else self._plain_backend
        try:
            return backend.encode(text, add_special_tokens=add_special).ids
        except TypeError as error:  # what the tokenizers package says of lone surrogates
            raise InvalidRequest("the text has a lone surrogate, which is no Unicode") from error

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of whole sequences; bytes that are no UTF-8 become U+FFFD.

        Equals the tokens' `token_bytes` joined (special ones left out) and decoded, incrementally
        or at once, but for one leading space, dropped where `strips_leading_space`. Output that
        continues a prompt is not a whole sequence: join its bytes and drop nothing, so that
        prompt + output is the text of the two together.
        """
        kept = (self.token_bytes(i) for i in ids if not (skip_special and self.is_special(i)))
        joined = b"".join(kept)
        if self.strips_leading_space:
            joined = joined.removeprefix(b" ")
        return joined.decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """What one token adds to a text, perhaps part of a character; special tokens: their text.

        Ids beyond the vocabulary (padding rows of the embedding) have no bytes.
        """
        known = self._vocabulary.token_bytes
        return known[token_id] if 0 <= token_id < len(known) else b""

    def is_special(self, token_id: int) -> bool:
        return token_id in self._vocabulary.special_ids

    @property
    def vocab_size(self) -> int:
        """Number of tokens with text; the model's embedding may have more rows."""
        return len(self._vocabulary.token_bytes)

    @property
    def bos_token_id(self) -> int | None:
        return self._vocabulary.bos_token_id

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Every token that ends generation (end of turn, of message, of text)."""
        return self._vocabulary.eos_token_ids

    @property
    def bos_token(self) -> str:
        """Text of the begin token, empty where there is none: for chat templates."""
        return self._text(self._vocabulary.bos_token_id)

    @property
    def eos_token(self) -> str:
        """Text of the file's own end token, empty where there is none: for chat templates."""
        ids = self._vocabulary.eos_token_ids
        return self._text(ids[0] if ids else None)

    @property
    def chat_template(self) -> str | None:
        return self._vocabulary.chat_template

    @property
    def strips_leading_space(self) -> bool:
        """Whether `decode` drops one leading space (see there)."""
        return self._vocabulary.strips_leading_space

    @cached_property
    def _plain_backend(self) -> tokenizers.Tokenizer:
        """A copy that takes special tokens for text; made on first use, since few ask for it."""
        plain = copy.deepcopy(self._backend)
        plain.encode_special_tokens = True
        return plain

    def _text(self, token_id: int | None) -> str:
        return "" if token_id is None else self.token_bytes(token_id).decode("utf-8", "replace")
