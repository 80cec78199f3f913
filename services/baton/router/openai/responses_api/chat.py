"""A Responses request as the chat request that asks for the same answer.

Pure. What only chat can tell to be wrong is left to it, and then put into this API's words.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from baton.common.errors import InvalidRequest
from baton.router.openai.responses_api.input import chat_messages
from baton.router.openai.responses_api.request import (
    LOGPROBS,
    FlatChoice,
    FlatTool,
    ResponsesRequest,
)
from baton.router.openai.schemas import (
    AllowedTools,
    ChatRequest,
    FunctionDefinition,
    FunctionName,
    Generation,
    JsonSchemaFormat,
    NamedTool,
    ResponseFormat,
    Tool,
    ToolChoice,
)

Places = Mapping[str, str]
"""For paths of a chat request, the path of the same thing in the Responses request."""

_PLACES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "response_format.json_schema": "text.format",
    "tool_choice.allowed_tools": "tool_choice",
}
_QUOTED = re.compile(r"'([\w.\[\]]+)'")


def chat_request(asked: ResponsesRequest) -> tuple[ChatRequest, Places]:
    """Raises InvalidRequest."""
    messages, places = chat_messages(asked)
    tools = asked.tools or ()
    # Its one option here concerns the padding of events, of which there is none.
    shared = {name: getattr(asked, name) for name in Generation.__struct_fields__}
    shared |= {"stream_options": None, "response_format": _response_format(asked)}
    request = ChatRequest(
        **shared,
        messages=messages,
        max_completion_tokens=asked.max_output_tokens,
        logprobs=LOGPROBS in (asked.include or ()),
        top_logprobs=_top_logprobs(asked),
        chat_template_kwargs=asked.chat_template_kwargs,
        reasoning_effort=asked.effort,
        tools=_tools(tools),
        tool_choice=_tool_choice(asked.tool_choice),
        parallel_tool_calls=asked.parallel_tool_calls,
    )
    nested = {f"tools[{index}].function": f"tools[{index}]" for index in range(len(tools))}
    return request, {**_PLACES, **nested, **places}


@contextmanager
def told_by(places: Places) -> Iterator[None]:
    """What is refused within is refused in the words of this API."""
    try:
        yield
    except InvalidRequest as error:
        message = _QUOTED.sub(lambda quoted: f"'{_place(quoted[1], places)}'", error.message)
        message = message.replace(" in the messages,", " in the input,")
        param = None if error.param is None else _place(error.param, places)
        raise type(error)(message, param=param) from None


def _place(path: str, places: Places) -> str:
    """By the longest of the paths that it lies under."""
    ends = [match.start() for match in re.finditer(r"[.\[]", path)]
    for end in (len(path), *reversed(ends)):
        if path[:end] in places:
            return places[path[:end]] + path[end:]
    return path


def _top_logprobs(asked: ResponsesRequest) -> int | None:
    if LOGPROBS in (asked.include or ()):
        return asked.top_logprobs
    if asked.top_logprobs:
        message = f"'top_logprobs' is only allowed when 'include' has '{LOGPROBS}'."
        raise InvalidRequest(message, param="top_logprobs")
    return None


def _response_format(asked: ResponsesRequest) -> ResponseFormat | None:
    told = None if asked.text is None else asked.text.format
    if told is None:
        return None
    if told.type != "json_schema":
        return ResponseFormat(told.type)
    for name in ("name", "schema"):
        if getattr(told, name) is None:
            field = f"text.format.{name}"
            raise InvalidRequest(f"'{field}' must be given.", param=field)
    return ResponseFormat(told.type, JsonSchemaFormat(told.name, told.schema, told.strict))


def _tools(tools: Sequence[FlatTool]) -> list[Tool]:
    return [_tool(f"tools[{index}]", tool) for index, tool in enumerate(tools)]


def _tool(where: str, tool: FlatTool) -> Tool:
    if tool.type != "function":
        return Tool(tool.type)
    if tool.name is None:
        raise InvalidRequest(f"'{where}.name' must be given.", param=f"{where}.name")
    definition = FunctionDefinition(tool.name, tool.description, tool.parameters, tool.strict)
    return Tool("function", definition)


def _tool_choice(choice: str | FlatChoice | None) -> str | ToolChoice | None:
    if not isinstance(choice, FlatChoice):
        return choice
    if choice.type == "allowed_tools" and choice.mode is not None and choice.tools is not None:
        tools = [NamedTool(tool.type, _function_name(tool.name)) for tool in choice.tools]
        return ToolChoice(choice.type, allowed_tools=AllowedTools(choice.mode, tools))
    return ToolChoice(choice.type, function=_function_name(choice.name))


def _function_name(name: str | None) -> FunctionName | None:
    return None if name is None else FunctionName(name)
