"""The response object: what was asked, what came of it, what it cost.

Knows OpenAI's shape; knows no events and no HTTP.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from baton.common.errors import BatonError
from baton.router.openai.errors import error_object
from baton.router.openai.generate import Piece
from baton.router.openai.plan import Plan
from baton.router.openai.responses import Head, Usage
from baton.router.openai.responses_api.reader import ItemReader
from baton.router.openai.responses_api.request import ResponsesRequest, TextFormat
from baton.router.text import TextModel


def whole_response(
    asked: ResponsesRequest,
    plan: Plan,
    head: Head,
    model: TextModel,
    pieces: Sequence[Piece],
    usage: Usage,
) -> dict[str, Any]:
    reader = ItemReader(plan, head, model)
    for piece in pieces:
        for _ in reader.read(piece):
            pass  # all that counts is what the items are in the end
    return ended_response(asked, head, reader, usage)


def ended_response(
    asked: ResponsesRequest, head: Head, reader: ItemReader, usage: Usage
) -> dict[str, Any]:
    status = "incomplete" if reader.cut else "completed"
    return _response(asked, head, status, reader, usage=_usage(usage))


def response_under_way(asked: ResponsesRequest, head: Head, reader: ItemReader) -> dict[str, Any]:
    return _response(asked, head, "in_progress", reader)


def failed_response(
    asked: ResponsesRequest, head: Head, reader: ItemReader, error: BatonError
) -> dict[str, Any]:
    told = {"code": _error_code(error), "message": error_object(error)["error"]["message"]}
    return _response(asked, head, "failed", reader, error=told)


def _response(
    asked: ResponsesRequest,
    head: Head,
    status: str,
    reader: ItemReader,
    *,
    usage: dict[str, Any] | None = None,
    error: dict[str, str] | None = None,
) -> dict[str, Any]:
    return {
        "id": head.id,
        "object": "response",
        "created_at": head.created,
        "status": status,
        "model": head.model,
        "error": error,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "output": [item.body() for item in reader.items],
        "usage": usage,
        **_echo(asked),
    }


def _echo(asked: ResponsesRequest) -> dict[str, Any]:
    """The request, with what holds where it says nothing."""
    text = TextFormat("text") if asked.text is None else asked.text.format or TextFormat("text")
    return {
        "background": False,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "metadata": asked.metadata or {},
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": asked.effort, "summary": None},
        "store": False,
        "temperature": 1.0 if asked.temperature is None else asked.temperature,
        "text": {"format": msgspec.to_builtins(text)},
        "tool_choice": msgspec.to_builtins(asked.tool_choice or "auto"),
        "tools": msgspec.to_builtins(asked.tools or []),
        "top_logprobs": asked.top_logprobs or 0,
        "top_p": 1.0 if asked.top_p is None else asked.top_p,
        "truncation": "disabled",
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        # Writing to the cache costs nobody anything here, and is not counted.
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.thought_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _error_code(error: BatonError) -> str:
    """The one of OpenAI's few that fits; the `error` event has our own."""
    if error.http_status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if error.http_status < 500 else "server_error"
