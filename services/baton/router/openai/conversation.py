"""The messages of a chat request as chat templates take them: a role, one text, calls and results.

Pure. Knows the form that Hugging Face gave templates; knows neither models nor tokens.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from baton.common.errors import InvalidRequest
from baton.router.openai.nesting import DEPTH_MAX, too_deep
from baton.router.openai.schemas import ContentPart, Message, ToolCall

MESSAGES_MAX = 4_096
"""A conversation has hundreds at most; a longer list is cheap to refuse and dear to template."""

# Each role as chat templates know it. OpenAI calls the system role of newer models "developer".
_TEMPLATE_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}

TemplateMessage = dict[str, Any]
"""`role` and `content`, both texts; an assistant's perhaps with `tool_calls`, whose arguments are
objects, and with what it thought, under both names that templates look for; a tool's with
`tool_call_id` and `name` where the request has them."""


def conversation(messages: Sequence[Message]) -> list[TemplateMessage]:
    """Raises InvalidRequest."""
    if not 0 < len(messages) <= MESSAGES_MAX:
        message = f"'messages' must have 1 to {MESSAGES_MAX} entries, not {len(messages)}."
        raise InvalidRequest(message, param="messages")
    return [_told(f"messages[{index}]", message) for index, message in enumerate(messages)]


def _told(where: str, message: Message) -> TemplateMessage:
    if message.role not in _TEMPLATE_ROLES:
        known = ", ".join(_TEMPLATE_ROLES)
        raise InvalidRequest(f"'{where}.role' must be one of {known}.", param=f"{where}.role")
    told: TemplateMessage = {
        "role": _TEMPLATE_ROLES[message.role],
        "content": _content(where, message),
    }
    if thought := _thought(message):
        told |= {"reasoning": thought, "reasoning_content": thought}
    if message.tool_calls:
        told["tool_calls"] = _calls(where, message)
    if message.role == "tool":
        told |= {
            name: value
            for name, value in (("tool_call_id", message.tool_call_id), ("name", message.name))
            if value is not None
        }
    return told


def _content(where: str, message: Message) -> str:
    """As one text."""
    content = message.content
    if content is None and not message.tool_calls and not _thought(message):
        raise InvalidRequest(f"'{where}.content' must be given.", param=f"{where}.content")
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(_part_text(part, f"{where}.content[{i}]") for i, part in enumerate(content))


def _thought(message: Message) -> str | None:
    """Only the assistant's is one."""
    return message.reasoning or message.reasoning_content if message.role == "assistant" else None


def _part_text(part: ContentPart, where: str) -> str:
    if part.type == "refusal" and part.refusal is not None:
        return part.refusal  # an earlier answer's
    if part.type != "text" or part.text is None:
        raise InvalidRequest(
            f"'{where}' must be a text part; others are not supported.", param=where
        )
    return part.text


def _calls(where: str, message: Message) -> list[dict[str, Any]]:
    if message.role != "assistant":
        field = f"{where}.tool_calls"
        raise InvalidRequest(f"'{field}' is for the assistant's messages only.", param=field)
    calls = enumerate(message.tool_calls or ())
    return [_call(f"{where}.tool_calls[{index}]", call) for index, call in calls]


def _call(where: str, call: ToolCall) -> dict[str, Any]:
    if call.type != "function":
        raise InvalidRequest(f"'{where}.type' must be 'function'.", param=f"{where}.type")
    arguments = _object(call.function.arguments)
    if too_deep(arguments):
        field = f"{where}.function.arguments"
        message = f"'{field}' may have at most {DEPTH_MAX} levels."
        raise InvalidRequest(message, param=field)
    known = {} if call.id is None else {"id": call.id}
    function = {"name": call.function.name, "arguments": arguments}
    return {**known, "type": "function", "function": function}


def _object(arguments: str | dict[str, Any]) -> dict[str, Any]:
    """None of what is no object: a call that was cut by its limit is in the conversation for good,
    which must go on all the same."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {}
