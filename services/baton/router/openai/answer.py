"""Texts, calls and thoughts in OpenAI's shapes: what the message of a whole answer has, and the
deltas of a streamed one.

Pure. Knows neither models nor streams.
"""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from baton.engine.params import FinishReason
from baton.router.openai.tools.syntax import Calling
from baton.router.openai.tools.text import Argued, Called, CallReader, Event, Said


def call_reader(calling: Calling | None, answer_id: str, choice: int) -> CallReader | None:
    """None where the answer may call nothing."""
    return None if calling is None else CallReader(calling, answer_id=answer_id, choice=choice)


def read_events(reader: CallReader | None, text: str, finish: FinishReason | None) -> list[Event]:
    """What more of an answer's text says; `finish` where it is the last."""
    if reader is None:
        return [Said(text)] if text else []
    events = reader.feed(text)
    return events if finish is None else events + reader.finish()


def thought_fields(thought: str) -> dict[str, Any]:
    """Under vLLM's name and under DeepSeek's, which clients of either look for."""
    return {"reasoning": thought, "reasoning_content": thought} if thought else {}


NO_THOUGHT: Mapping[str, None] = {"reasoning": None, "reasoning_content": None}
"""Of a message that might have had some: clients of such models look at the fields."""


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


def reason_of(finish: FinishReason | None, reader: CallReader | None) -> str | None:
    """Why a choice ended. A call that a stop string cut is none to be made."""
    if reader is not None and finish is FinishReason.STOP and reader.ends_with_call:
        return "tool_calls"
    return None if finish is None else finish.value
