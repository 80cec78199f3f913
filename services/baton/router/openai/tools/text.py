"""Tells the calls in an answer from its text, as both come.

Sans I/O. Whatever the split into pieces, content and calls are the same in the end. Relies on the
grammar that the answer follows; one that follows none is content, or a call that never ends.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import blake2b

from baton.router.openai.tools.syntax import Calling

ID_BYTES = 12  # 24 digits, as many characters as OpenAI's have


@dataclass(frozen=True, slots=True)
class Said:
    """Content."""

    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """A call begins."""

    index: int  # of the calls of this answer
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Argued:
    """More of the arguments of the call that began last."""

    index: int
    text: str


Event = Said | Called | Argued


class _Within(Enum):
    CONTENT = auto()
    ARGUMENTS = auto()
    TAIL = auto()


class CallReader:
    """Reads one answer. Holds back what could begin a call, and white space that might stand before
    one."""

    def __init__(self, calling: Calling, *, answer_id: str, choice: int) -> None:
        """The ids of the calls are made from these two, which no other choice has."""
        self._calling = calling
        self._answer_id = f"{answer_id}/{choice}"
        # With the brace that begins the arguments: JSON that only begins like a call has none.
        self._heads = {
            calling.syntax.head(function.name) + "{": function.name
            for function in calling.use.allowed
        }
        self._within = _Within.CONTENT
        self._held = ""
        self._spoken = False
        self._calls = 0
        self._object = _ObjectEnd()
        self._tail_left = 0  # characters behind the arguments

    @property
    def ends_with_call(self) -> bool:
        """Whether calls were made, each with all its arguments."""
        return self._calls > 0 and self._within is not _Within.ARGUMENTS

    def feed(self, text: str) -> list[Event]:
        events: list[Event] = []
        rest, self._held = self._held + text, ""
        while rest:
            match self._within:
                case _Within.CONTENT:
                    rest = self._content(rest, events)
                case _Within.ARGUMENTS:
                    rest = self._arguments(rest, events)
                case _Within.TAIL:
                    taken = min(len(rest), self._tail_left)
                    rest, self._tail_left = rest[taken:], self._tail_left - taken
                    if not self._tail_left:
                        self._within = _Within.CONTENT
        return events

    def finish(self) -> list[Event]:
        """Now that no text will come. The beginning of a call is no content."""
        held, self._held = self._held, ""
        begun = held.lstrip().startswith(self._calling.syntax.trigger)
        if not held or begun or self._calls or self._calling.use.required:
            return []
        return [Said(held)]

    def _content(self, window: str, events: list[Event]) -> str:
        start, head = self._call_in(window)
        said = window[:start].rstrip()
        if said:
            self._spoken = True
            events.append(Said(said))
        if head is None:
            self._held = window[len(said) :]
            return ""
        events.append(Called(self._calls, self._new_id(), self._heads[head]))
        self._calls += 1
        self._object = _ObjectEnd()
        self._within = _Within.ARGUMENTS
        return window[start + len(head) - 1 :]

    def _call_in(self, window: str) -> tuple[int, str | None]:
        """Where the first call begins, and its head; None while that is not complete."""
        for start in self._starts(window):
            rest = window[start:]
            for head in self._heads:
                if rest.startswith(head):
                    return start, head
                if head.startswith(rest):
                    return start, None
        return len(window), None

    def _starts(self, window: str) -> Iterable[int]:
        """Where a call could begin."""
        syntax = self._calling.syntax
        if syntax.accompanied:
            return (at for at, char in enumerate(window) if char == syntax.trigger[0])
        if self._spoken or self._calls:
            return ()
        return (len(window) - len(window.lstrip()),)

    def _arguments(self, text: str, events: list[Event]) -> str:
        end = self._object.find(text)
        events.append(Argued(self._calls - 1, text[:end]))
        if end is None:
            return ""
        self._within = _Within.TAIL
        self._tail_left = len(self._calling.syntax.tail)
        return text[end:]

    def _new_id(self) -> str:
        key = f"{self._answer_id}/{self._calls}".encode()
        return "call_" + blake2b(key, digest_size=ID_BYTES, person=b"baton-call").hexdigest()


class _ObjectEnd:
    """Finds where a JSON object ends, in text that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = False
        self._escaped = False

    def find(self, text: str) -> int | None:
        """The index behind the brace that ends it; None where that is not in `text`."""
        for at, char in enumerate(text):
            if self._quoted:
                self._quoted = self._escaped or char != '"'
                self._escaped = char == "\\" and not self._escaped
            elif char == '"':
                self._quoted = True
            elif char == "{":
                self._depth += 1
            elif char == "}":
                self._depth -= 1
                if self._depth == 0:
                    return at + 1
        return None
