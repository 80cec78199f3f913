"""What a chat request says about tools, as one checked value: which the model may call, which it
must.

Pure. Knows functions; knows neither how a model writes a call nor prompts. Descriptions have no
limit of their own: they go into the prompt, which has one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from baton.common.errors import InvalidRequest
from baton.router.openai.nesting import DEPTH_MAX, too_deep
from baton.router.openai.schemas import ChatRequest, NamedTool, Tool, ToolChoice

TOOLS_MAX = 128  # OpenAI's
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # OpenAI's; a name stands in prompts and grammars as is
_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
_MODES = ("none", "auto", "required")  # allowed_tools has the last two


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    description: str | None
    parameters: Mapping[str, Any]  # the JSON schema of its arguments, an object
    strict: bool  # every keyword of the schema must be honoured, or the request refused

    @property
    def definition(self) -> dict[str, Any]:
        """As chat templates take it, in the order in which models were shown it."""
        told: dict[str, Any] = {"name": self.name}
        if self.description is not None:
            told["description"] = self.description
        return {"type": "function", "function": {**told, "parameters": self.parameters}}


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The prompt tells of every function, so that whoever allows now these, now those keeps its
    cache."""

    functions: tuple[Function, ...]
    allowed: tuple[Function, ...]  # those that may be called: at least one
    required: bool  # the answer is calls and nothing else
    parallel: bool  # it may have more than one


def tool_use(request: ChatRequest) -> ToolUse | None:
    """None where no tool may be called. Raises InvalidRequest."""
    functions = _functions(request.tools or ())
    if not functions:
        if request.tool_choice not in (None, "none", "auto"):
            message = "'tool_choice' is only allowed when 'tools' are given."
            raise InvalidRequest(message, param="tool_choice")
        return None
    parallel = request.parallel_tool_calls is not False
    match request.tool_choice:
        case str() | None as mode:
            allowed, required = functions, _required("tool_choice", mode or "auto", _MODES)
        case ToolChoice(type="function", function=named) if named is not None:
            allowed, required, parallel = (_named(functions, named.name),), True, False
        case ToolChoice(type="allowed_tools", allowed_tools=subset) if subset is not None:
            allowed = _subset(functions, subset.tools)
            required = _required("tool_choice.allowed_tools.mode", subset.mode, _MODES[1:])
        case _:
            message = (
                "'tool_choice' must be 'none', 'auto', 'required', a function or allowed tools."
            )
            raise InvalidRequest(message, param="tool_choice")
    if request.tool_choice == "none":
        return None
    return ToolUse(functions, allowed, required, parallel)


def _required(where: str, mode: str, modes: Sequence[str]) -> bool:
    if mode not in modes:
        raise InvalidRequest(f"'{where}' must be one of {', '.join(modes)}.", param=where)
    return mode == "required"


def _functions(tools: Sequence[Tool]) -> tuple[Function, ...]:
    if len(tools) > TOOLS_MAX:
        message = f"'tools' may have at most {TOOLS_MAX} entries, not {len(tools)}."
        raise InvalidRequest(message, param="tools")
    functions = tuple(_function(f"tools[{index}]", tool) for index, tool in enumerate(tools))
    if len({function.name for function in functions}) < len(functions):
        raise InvalidRequest("Each function of 'tools' must have its own name.", param="tools")
    return functions


def _function(where: str, tool: Tool) -> Function:
    if tool.type != "function":
        message = f"'{where}.type' must be 'function': this server knows no other tools."
        raise InvalidRequest(message, param=f"{where}.type")
    told = tool.function
    if told is None:
        raise InvalidRequest(f"'{where}.function' must be given.", param=f"{where}.function")
    if not _NAME.fullmatch(told.name):
        message = f"'{where}.function.name' must have 1 to 64 letters, digits, '_' or '-'."
        raise InvalidRequest(message, param=f"{where}.function.name")
    parameters = _NO_PARAMETERS if told.parameters is None else told.parameters
    if parameters.get("type", "object") != "object" or too_deep(parameters):
        message = (
            f"'{where}.function.parameters' must be the JSON schema of an object, on at most "
            f"{DEPTH_MAX} levels."
        )
        raise InvalidRequest(message, param=f"{where}.function.parameters")
    return Function(told.name, told.description, parameters, strict=bool(told.strict))


def _subset(functions: Sequence[Function], tools: Sequence[NamedTool]) -> tuple[Function, ...]:
    """In the order of `functions`, each once."""
    if not tools or any(tool.type != "function" or tool.function is None for tool in tools):
        where = "tool_choice.allowed_tools.tools"
        raise InvalidRequest(f"'{where}' must be one or more functions.", param=where)
    chosen = [_named(functions, tool.function.name) for tool in tools if tool.function is not None]
    return tuple(function for function in functions if function in chosen)


def _named(functions: Sequence[Function], name: str) -> Function:
    for function in functions:
        if function.name == name:
            return function
    message = "'tool_choice' names a function that is not among 'tools'."
    raise InvalidRequest(message, param="tool_choice")
