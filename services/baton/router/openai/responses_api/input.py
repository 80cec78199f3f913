"""The input of a Responses request as messages of a chat, each with the place where it stood.

Pure. Knows items; knows neither templates nor tokens.
"""

from typing import Any

import msgspec

from baton.common.errors import InvalidRequest
from baton.router.openai.responses_api.request import ResponsesRequest
from baton.router.openai.schemas import ContentPart, FunctionCall, Message, ToolCall, convert

_ROLES = ("user", "assistant", "system", "developer")
_TEXT_PARTS = ("input_text", "output_text", "text")
_SHOWN_MAX = 50  # characters of an unknown type, in the message that refuses it


class _MessageItem(msgspec.Struct):
    role: str
    content: str | list[ContentPart]


class _CallItem(msgspec.Struct):
    call_id: str
    name: str
    arguments: str | dict[str, Any] = ""


class _ResultItem(msgspec.Struct):
    output: str | list[ContentPart]
    call_id: str | None = None


class _ThoughtPart(msgspec.Struct):
    text: str | None = None


class _ReasoningItem(msgspec.Struct):
    content: list[_ThoughtPart] | None = None


def chat_messages(asked: ResponsesRequest) -> tuple[list[Message], dict[str, str]]:
    """The messages, and for paths among them the path of the same thing in this request. Raises
    InvalidRequest."""
    telling = _Telling()
    if asked.instructions:
        telling.add(Message("system", asked.instructions), "instructions")
    if isinstance(asked.input, str):
        telling.add(Message("user", asked.input), "input")
    else:
        for index, item in enumerate(asked.input):
            telling.add_item(item, f"input[{index}]")
    return telling.messages, telling.places


class _Telling:
    """Messages so far. Calls that follow each other, or text of the assistant, join its message."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._thought: str | None = None  # before what comes next, if the assistant says that
        self.places: dict[str, str] = {}

    def add(self, message: Message, where: str) -> None:
        if message.role == "assistant":
            message.reasoning = self._thought
        self._thought = None
        self.places[f"messages[{len(self.messages)}]"] = where
        self.messages.append(message)

    def add_item(self, item: dict[str, Any], where: str) -> None:
        match item.get("type") or "message":
            case "message":
                self._add_message(convert(item, _MessageItem, where), where)
            case "function_call":
                self._add_call(convert(item, _CallItem, where), where)
            case "function_call_output":
                self._add_result(convert(item, _ResultItem, where), where)
            case "reasoning":
                thought = _thought(convert(item, _ReasoningItem, where))
                self._thought = (self._thought or "") + thought
            case kind:
                shown = str(kind)[:_SHOWN_MAX]
                message = f"'{where}' is of a type that this server does not support: {shown}."
                raise InvalidRequest(message, param=where)

    def _add_message(self, item: _MessageItem, where: str) -> None:
        if item.role not in _ROLES:
            message = f"'{where}.role' must be one of {', '.join(_ROLES)}."
            raise InvalidRequest(message, param=f"{where}.role")
        self.add(Message(item.role, _chat_content(item.content)), where)

    def _add_call(self, item: _CallItem, where: str) -> None:
        if self._thought or not self.messages or self.messages[-1].role != "assistant":
            self.add(Message("assistant"), where)
        message = self.messages[-1]
        calls = message.tool_calls or []
        path = f"messages[{len(self.messages) - 1}].tool_calls[{len(calls)}]"
        self.places |= {path: where, f"{path}.function": where}
        call = ToolCall(FunctionCall(item.name, item.arguments), id=item.call_id)
        message.tool_calls = [*calls, call]

    def _add_result(self, item: _ResultItem, where: str) -> None:
        self.places[f"messages[{len(self.messages)}].content"] = f"{where}.output"
        content = _chat_content(item.output)
        self.add(Message("tool", content, tool_call_id=item.call_id), where)


def _thought(item: _ReasoningItem) -> str:
    """Empty where it is only summed up, or encrypted: other models' are."""
    return "".join(part.text or "" for part in item.content or ())


def _chat_content(content: str | list[ContentPart]) -> str | list[ContentPart]:
    """Parts that are no text keep their type, by which chat refuses them."""
    if isinstance(content, str):
        return content
    return [
        ContentPart("text" if part.type in _TEXT_PARTS else part.type, part.text, part.refusal)
        for part in content
    ]
