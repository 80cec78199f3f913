"""Requests with tools, as clients send them."""

import json
from typing import Any

import msgspec
from baton.router.openai.schemas import ChatRequest, parse_body
from baton.router.openai.tools.syntax import Calling, Syntax
from baton.router.openai.tools.use import tool_use

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "clock"}}
TOOLS: Any = [WEATHER, CLOCK]
NAMED_CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "clock"}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def chat_request(**fields: object) -> ChatRequest:
    body = {"model": "bytes", "messages": [{"role": "user", "content": "hi"}], **fields}
    return parse_body(ChatRequest, msgspec.json.encode(body))


def calling(syntax: Syntax, **fields: object) -> Calling:
    """How an answer may call, where a request says this; `TOOLS` if it says nothing of them."""
    use = tool_use(chat_request(**{"tools": TOOLS, **fields}))
    assert use is not None
    return Calling(syntax, use)


def hermes_call(name: str, **arguments: object) -> str:
    """Qwen's way, spelled out."""
    said = json.dumps(arguments, ensure_ascii=False)
    return f'<tool_call>\n{{"name": "{name}", "arguments": {said}}}\n</tool_call>'


def llama_call(name: str, **arguments: object) -> str:
    return f'{{"name": "{name}", "parameters": {json.dumps(arguments, ensure_ascii=False)}}}'
