"""Logprobs in OpenAI's two shapes: a list of objects for chat, four parallel lists for completions.

Every token of the output has an entry, the finishing one included, as in vLLM. Knows no requests.
"""

import codecs
import math
from collections.abc import Sequence
from typing import Any

from baton.engine.params import TokenSample
from baton.router.detokenize import TokenBytes

LOGPROB_MIN = -9999.0
"""JSON has no minus infinity; this is OpenAI's stand-in."""


def chat_entries(samples: Sequence[TokenSample], tokenizer: TokenBytes) -> list[dict[str, Any]]:
    """`choices[].logprobs.content` of these tokens."""
    return [
        {
            **_entry(tokenizer.token_bytes(sample.token_id), sample.logprob),
            "top_logprobs": [
                _entry(tokenizer.token_bytes(top.token_id), top.logprob) for top in sample.top
            ],
        }
        for sample in samples
    ]


def _entry(token: bytes, logprob: float | None) -> dict[str, Any]:
    return {"token": token_text(token), "logprob": _finite(logprob), "bytes": list(token)}


class CompletionLists:
    """Builds the four lists of a choice, in one go or piece by piece; text offsets run on."""

    def __init__(
        self, tokenizer: TokenBytes, *, skip_special: bool, prompt: str | None = None
    ) -> None:
        """`prompt`: as the client wrote it, where it was no token ids."""
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._prompt = prompt
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def add(
        self, prompt: Sequence[TokenSample], output: Sequence[TokenSample]
    ) -> dict[str, list[Any]]:
        """The lists of these tokens, which follow those added before; those of the prompt, where
        they are told, come in the first call."""
        lists: dict[str, list[Any]] = {
            "tokens": [],
            "token_logprobs": [],
            "top_logprobs": [],
            "text_offset": [],
        }
        for place, sample in enumerate([*prompt, *output]):
            token = self._tokenizer.token_bytes(sample.token_id)
            lists["tokens"].append(token_text(token))
            lists["token_logprobs"].append(_known(sample.logprob))
            lists["top_logprobs"].append(self._alternatives(sample))
            lists["text_offset"].append(self._offset)
            written = self._prompt is not None and place < len(prompt)
            if self._echoed(place, token) if written else self._shown(sample.token_id):
                self._offset += len(self._utf8.decode(token))
        return lists

    def _echoed(self, place: int, token: bytes) -> bool:
        """Whether it stands in the prompt as the client wrote it: all do but what the tokenizer has
        put in front."""
        return place > 0 or (self._prompt or "").startswith(token_text(token))

    def _shown(self, token_id: int) -> bool:
        return not (self._skip_special and self._tokenizer.is_special(token_id))

    def _alternatives(self, sample: TokenSample) -> dict[str, float] | None:
        """By text, the chosen token among them. None for a prompt's first token."""
        if sample.logprob is None:
            return None
        found: dict[str, float] = {}
        for top in sample.top:
            # Unfinished characters share a text; the likeliest stands for them.
            text = token_text(self._tokenizer.token_bytes(top.token_id))
            found.setdefault(text, _finite(top.logprob))
        found.setdefault(
            token_text(self._tokenizer.token_bytes(sample.token_id)), _finite(sample.logprob)
        )
        return found


def token_text(token: bytes) -> str:
    """By itself: of part of a character, U+FFFD."""
    return token.decode("utf-8", "replace")


def _known(logprob: float | None) -> float | None:
    return None if logprob is None else _finite(logprob)


def _finite(logprob: float | None) -> float:
    if logprob is None or not math.isfinite(logprob):
        return LOGPROB_MIN
    return logprob
