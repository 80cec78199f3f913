"""Tokens to text, piece by piece: whole UTF-8 characters only, cut at the first stop string.

Whatever the split into pieces, their concatenation equals decoding and cutting the whole at once.
Knows no HTTP and no model: a token is its bytes.
"""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class TokenBytes(Protocol):
    """The part of a tokenizer that turns tokens back into text."""

    def token_bytes(self, token_id: int) -> bytes: ...
    def is_special(self, token_id: int) -> bool: ...


class StopMatcher:
    """Passes text through until a stop string ends in it; holds back only what could begin one.

    Of several stop strings the one that ends first counts, among those the longest.
    """

    def __init__(self, stops: Sequence[str], *, include_match: bool) -> None:
        self._stops = tuple(stops)
        self._include_match = include_match
        self._held = ""
        self.matched: str | None = None

    def feed(self, text: str) -> str:
        """Text that can no longer become part of a stop string. Not to be called after a match."""
        if not self._stops:
            return text
        window = self._held + text
        ends = [
            (start + len(stop), start, stop)
            for stop in self._stops
            if (start := window.find(stop)) >= 0
        ]
        if ends:
            end, start, self.matched = min(ends)
            self._held = ""
            return window[: end if self._include_match else start]
        held_from = min(possible_start(window, stop) for stop in self._stops)
        self._held = window[held_from:]
        return window[:held_from]

    def flush(self) -> str:
        """What was held back, now that no more text will come."""
        held, self._held = self._held, ""
        return held


def possible_start(window: str, stop: str) -> int:
    """Index of the longest suffix of `window` that begins `stop`; its length where there is
    none."""
    start = window.find(stop[0], max(0, len(window) - len(stop) + 1))
    while start >= 0:
        if stop.startswith(window[start:]):
            return start
        start = window.find(stop[0], start + 1)
    return len(window)


@dataclass(frozen=True, slots=True)
class TextOptions:
    stops: tuple[str, ...] = ()
    include_stop: bool = False
    skip_special: bool = True
    min_tokens: int = 0  # text of these is not searched for stop strings


class Detokenizer:
    """The text of one output."""

    def __init__(self, tokenizer: TokenBytes, options: TextOptions) -> None:
        self._tokenizer = tokenizer
        self._options = options
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._matcher = StopMatcher(options.stops, include_match=options.include_stop)
        self._tokens = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the text."""
        return self._matcher.matched is not None

    @property
    def stop(self) -> str | None:
        """The stop string that has."""
        return self._matcher.matched

    def feed(self, token_id: int) -> str:
        """The text that became certain with this token. Not to be called once `stopped`."""
        self._tokens += 1
        if self._options.skip_special and self._tokenizer.is_special(token_id):
            return ""
        return self._certain(self._utf8.decode(self._tokenizer.token_bytes(token_id)))

    def finish(self) -> str:
        """The rest, now that no token will follow: what was held back, an unfinished character as
        U+FFFD."""
        if self.stopped:
            return ""
        text = self._certain(self._utf8.decode(b"", final=True))
        return text if self.stopped else text + self._matcher.flush()

    def _certain(self, text: str) -> str:
        if not text or self._tokens <= self._options.min_tokens:
            return text
        return self._matcher.feed(text)
