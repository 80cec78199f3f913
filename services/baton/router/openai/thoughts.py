"""What a model thinks before it answers: whether it will is told from its chat template and prompt,
and where its thoughts end from its text.

Sans I/O. Whatever the split into pieces, thoughts and text are the same in the end. Knows texts and
token counts; knows no grammars and no bodies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from baton.engine.params import TokenSample
from baton.router.detokenize import possible_start
from baton.router.text import TextModel, Tokenizer

MARKS = OPENING, CLOSING = "<think>", "</think>"
"""DeepSeek's, which Qwen's, SmolLM's and many other models have too."""


@dataclass(frozen=True, slots=True)
class Thinking:
    """How the answers of one request begin."""

    begun: bool  # by the prompt: no answer opens its thoughts itself, and each has some
    told: bool  # whether the client is told what was thought
    closing_id: int | None  # the token of CLOSING; None: several tokens spell it


def thinking_of(model: TextModel, prompt: str, *, told: bool) -> Thinking | None:
    """None where the model does not think, or its template has been told that it shall not: then
    the prompt closes the thoughts itself."""
    if opening_of(model.chat.source) is None:
        return None
    end = prompt.rstrip()
    if end.endswith(CLOSING):
        return None
    return Thinking(end.endswith(OPENING), told, _closing_id(model.tokenizer))


def opening_of(template: str) -> str | None:
    """What thoughts of a model with this chat template begin with; None: it has none."""
    return OPENING if CLOSING in template else None


def _closing_id(tokenizer: Tokenizer) -> int | None:
    token_ids = tokenizer.encode(CLOSING, add_special=False, parse_special=True)
    return token_ids[0] if len(token_ids) == 1 else None


class _Within(Enum):
    START = auto()  # nothing but white space yet, or what could begin the opening mark
    THOUGHTS = auto()
    GAP = auto()  # between the closing mark and the answer's first character
    ANSWER = auto()


@dataclass(frozen=True, slots=True)
class Split:
    """What a piece of an output adds."""

    thought: str  # where the client is told
    text: str
    thought_tokens: int  # the marks' included


class ThoughtReader:
    """Reads one output. Holds back what could begin a mark, and white space that might stand before
    one: neither marks nor the white space around them belong to anything."""

    def __init__(self, thinking: Thinking) -> None:
        self._thinking = thinking
        self._within = _Within.THOUGHTS if thinking.begun else _Within.START
        self._held = ""
        self._spoken = False  # whether a thought has been read
        self._closed = False  # no further token is a thought's

    def feed(self, text: str, samples: Sequence[TokenSample]) -> Split:
        """`samples` are the tokens behind `text`, of which some may still be held back."""
        began, rest, self._held = self._within, self._held + text, ""
        thought = ""
        if self._within is _Within.START:
            rest = self._start(rest)
        if self._within is _Within.THOUGHTS:
            thought, rest = self._thoughts(rest)
        if self._within is _Within.GAP and (rest := rest.lstrip()):
            self._within = _Within.ANSWER
        return Split(self._told(thought), rest, self._count(began, samples))

    def finish(self) -> Split:
        """The rest, now that no text will come: what could have begun a mark began none."""
        held, self._held = self._held, ""
        if self._within is _Within.THOUGHTS:
            return Split(self._told(held.rstrip()), "", 0)
        return Split("", held, 0)

    def _start(self, window: str) -> str:
        """What follows it; all of it where it opens no thoughts."""
        begun = window.lstrip()
        if begun.startswith(OPENING):
            self._within = _Within.THOUGHTS
            return begun.removeprefix(OPENING)
        if OPENING.startswith(begun):
            self._held = window
            return ""
        self._within = _Within.ANSWER
        return window

    def _thoughts(self, window: str) -> tuple[str, str]:
        """The thoughts of it, and what follows the closing mark."""
        window = window if self._spoken else window.lstrip()
        before, mark, after = window.partition(CLOSING)
        if mark:
            self._within = _Within.GAP
            return before.rstrip(), after
        thought = window[: possible_start(window, CLOSING)].rstrip()
        self._held = window[len(thought) :]
        self._spoken = self._spoken or bool(thought)
        return thought, ""

    def _told(self, thought: str) -> str:
        return thought if self._thinking.told else ""

    def _count(self, began: _Within, samples: Sequence[TokenSample]) -> int:
        """How many of them, the first ones, are thoughts'. All of a piece that a mark is in are,
        where no single token spells it."""
        opened = began is _Within.THOUGHTS or self._within in (_Within.THOUGHTS, _Within.GAP)
        if self._closed or not opened:
            return 0
        self._closed = self._within is not _Within.THOUGHTS
        return self._up_to_closing(samples)

    def _up_to_closing(self, samples: Sequence[TokenSample]) -> int:
        for count, sample in enumerate(samples, start=1):
            if sample.token_id == self._thinking.closing_id:
                self._closed = True
                return count
        return len(samples)
