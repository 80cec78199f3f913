"""Calls in OpenAI's shapes: what the message of a whole answer has, and the deltas of a streamed
one.

Pure. Knows neither models nor streams.
"""

from collections.abc import Sequence
from typing import Any, assert_never

from baton.engine.params import FinishReason
from baton.router.openai.tools.text import Argued, Called, CallReader, Event, Said


def message_of(events: Sequence[Event]) -> dict[str, Any]:
    """Content and calls, each where there is one."""
    content = ""
    calls: list[dict[str, Any]] = []
    for event in events:
        match event:
            case Said(text):
                content += text
            case Called(_, call_id, name):
                function = {"name": name, "arguments": ""}
                calls.append({"id": call_id, "type": "function", "function": function})
            case Argued(index, text):
                calls[index]["function"]["arguments"] += text
            case _:
                assert_never(event)
    return {"content": content or None, "tool_calls": calls} if calls else {"content": content}


def delta_of(event: Event) -> dict[str, Any]:
    match event:
        case Said(text):
            return {"content": text}
        case Called(index, call_id, name):
            function = {"name": name, "arguments": ""}
            call = {"index": index, "id": call_id, "type": "function", "function": function}
            return {"tool_calls": [call]}
        case Argued(index, text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
        case _:
            assert_never(event)


def reason_of(finish: FinishReason | None, reader: CallReader) -> str | None:
    """Why a choice ended. A call that a stop string cut is none to be made."""
    if finish is FinishReason.STOP and reader.ends_with_call:
        return "tool_calls"
    return None if finish is None else finish.value
