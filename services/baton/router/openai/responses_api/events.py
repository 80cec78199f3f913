"""A streamed response: each change of its items becomes the bytes of OpenAI's typed events.

Knows the events, their order and their numbers; knows no HTTP.
"""

from typing import Any

import msgspec

from baton.common.errors import BatonError
from baton.router.openai.errors import error_object
from baton.router.openai.generate import Piece
from baton.router.openai.plan import Plan
from baton.router.openai.responses import Head, Usage
from baton.router.openai.responses_api.body import (
    ended_response,
    failed_response,
    response_under_way,
)
from baton.router.openai.responses_api.items import (
    Call,
    CallGrew,
    Change,
    Closed,
    Item,
    Opened,
    Reasoning,
    Speech,
    Spoke,
    Thought,
)
from baton.router.openai.responses_api.reader import ItemReader
from baton.router.openai.responses_api.request import ResponsesRequest
from baton.router.text import TextModel

_json = msgspec.json.Encoder().encode


class ResponseEvents:
    """The events of one response."""

    def __init__(self, asked: ResponsesRequest, plan: Plan, head: Head, model: TextModel) -> None:
        self._asked = asked
        self._head = head
        self._reader = ItemReader(plan, head, model)
        self._told = 0  # events

    def opening(self) -> bytes:
        begun = response_under_way(self._asked, self._head, self._reader)
        created = self._event("response.created", response=begun)
        return created + self._event("response.in_progress", response=begun)

    def piece(self, piece: Piece) -> bytes:
        return b"".join([self._changed(change) for change in self._reader.read(piece)])

    def closing(self, usage: Usage) -> bytes:
        ended = ended_response(self._asked, self._head, self._reader, usage)
        return self._event(f"response.{ended['status']}", response=ended)

    def failure(self, error: BatonError) -> bytes:
        """Clients know no response that was not created."""
        opening = b"" if self._told else self.opening()
        told = error_object(error)["error"]
        named = {name: told[name] for name in ("code", "message", "param")}
        self._reader.break_off()
        failed = failed_response(self._asked, self._head, self._reader, error)
        return (
            opening
            + self._event("error", **named)
            + self._event("response.failed", response=failed)
        )

    def _changed(self, change: Change) -> bytes:
        match change:
            case Spoke(speech, text, logprobs):
                return self._text("delta", speech, delta=text, logprobs=logprobs)
            case Thought(reasoning, text):
                return self._text("delta", reasoning, delta=text)
            case CallGrew(call, text):
                return self._arguments("delta", call, delta=text)
            case Opened(item):
                added = self._item("added", item)
                return added if isinstance(item, Call) else added + self._part("added", item)
            case Closed(item):
                return self._closed(item)

    def _closed(self, item: Item) -> bytes:
        match item:
            case Speech():
                done = self._text("done", item, text=item.text, logprobs=item.logprobs)
                done += self._part("done", item)
            case Reasoning():
                done = self._text("done", item, text=item.text) + self._part("done", item)
            case Call():
                done = self._arguments("done", item, name=item.name, arguments=item.text)
        return done + self._item("done", item)

    def _item(self, event: str, item: Item) -> bytes:
        kind = f"response.output_item.{event}"
        return self._event(kind, output_index=item.index, item=item.body())

    def _part(self, event: str, item: Speech | Reasoning) -> bytes:
        return self._of_part(f"response.content_part.{event}", item, part=item.part())

    def _text(self, event: str, item: Speech | Reasoning, **told: object) -> bytes:
        return self._of_part(f"response.{item.PART}.{event}", item, **told)

    def _of_part(self, kind: str, item: Speech | Reasoning, **told: object) -> bytes:
        place = {"item_id": item.id, "output_index": item.index, "content_index": 0}
        return self._event(kind, **place, **told)

    def _arguments(self, event: str, call: Call, **told: object) -> bytes:
        kind = f"response.function_call_arguments.{event}"
        return self._event(kind, item_id=call.id, output_index=call.index, **told)

    def _event(self, kind: str, **told: Any) -> bytes:
        body = {"type": kind, "sequence_number": self._told, **told}
        self._told += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), _json(body))
