"""The items of a response, and how they change while it is generated.

Pure. Knows the shapes of items; knows neither where they come from nor events.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Status = Literal["in_progress", "completed", "incomplete"]
Entries = list[dict[str, Any]]
"""Logprobs, an entry per token."""


@dataclass(slots=True)
class _Growing:
    """What all items have: a place, and text that grows."""

    id: str
    index: int
    status: Status = field(default="in_progress", kw_only=True)
    texts: list[str] = field(default_factory=list, kw_only=True)

    @property
    def text(self) -> str:
        return "".join(self.texts)


@dataclass(slots=True)
class Speech(_Growing):
    """A message item. Its one part is text."""

    PART: ClassVar = "output_text"

    logprobs: Entries = field(default_factory=list, kw_only=True)

    def part(self) -> dict[str, Any]:
        return {
            "type": self.PART,
            "text": self.text,
            "annotations": [],
            "logprobs": self.logprobs,
        }

    def body(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "status": self.status,
            "content": [self.part()] if self.texts else [],
        }


@dataclass(slots=True)
class Reasoning(_Growing):
    """A reasoning item: what was thought, whole and not summed up."""

    PART: ClassVar = "reasoning_text"

    def part(self) -> dict[str, Any]:
        return {"type": self.PART, "text": self.text}

    def body(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "reasoning",
            "status": self.status,
            "summary": [],
            "content": [self.part()] if self.texts else [],
        }


@dataclass(slots=True)
class Call(_Growing):
    """A function_call item. Its text is the arguments'."""

    call_id: str
    name: str

    def body(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "function_call",
            "call_id": self.call_id,
            "name": self.name,
            "arguments": self.text,
            "status": self.status,
        }


Item = Speech | Reasoning | Call


@dataclass(frozen=True, slots=True)
class Opened:
    item: Item


@dataclass(frozen=True, slots=True)
class Spoke:
    speech: Speech
    text: str
    logprobs: Entries  # of the tokens since those told before


@dataclass(frozen=True, slots=True)
class Thought:
    reasoning: Reasoning
    text: str


@dataclass(frozen=True, slots=True)
class CallGrew:
    call: Call
    text: str


@dataclass(frozen=True, slots=True)
class Closed:
    item: Item


Change = Opened | Spoke | Thought | CallGrew | Closed
