"""The bodies of OpenAI requests as typed values, and the clear error for a body that is none.

Types only: ranges are checked in `params`, prompts in `prompts`. Unknown fields are accepted;
fields that would change the answer and that Baton does not honour are refused, never ignored.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import msgspec

from baton.common.errors import InvalidRequest


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class ContentPart(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None


class FunctionCall(msgspec.Struct):
    name: str
    arguments: str | dict[str, Any] = ""


class ToolCall(msgspec.Struct):
    function: FunctionCall
    type: str = "function"
    id: str | None = None


class Message(msgspec.Struct):
    role: str
    content: str | list[ContentPart] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str | None = None  # what was thought before it was said
    reasoning_content: str | None = None  # the same, under its other name


class FunctionDefinition(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct):
    type: str
    function: FunctionDefinition | None = None


class FunctionName(msgspec.Struct):
    name: str


class NamedTool(msgspec.Struct):
    type: str
    function: FunctionName | None = None


class AllowedTools(msgspec.Struct):
    mode: str
    tools: list[NamedTool]


class ToolChoice(msgspec.Struct):
    type: str
    function: FunctionName | None = None
    allowed_tools: AllowedTools | None = None


class JsonSchemaFormat(msgspec.Struct):
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct):
    """OpenAI's way to ask for JSON."""

    type: str
    json_schema: JsonSchemaFormat | None = None
    schema: dict[str, Any] | None = None  # of a json_object, which is others' way to say it


class StructuredOutputs(msgspec.Struct, forbid_unknown_fields=True):
    """vLLM's way to ask for a form. What it has besides would change the answer."""

    json: dict[str, Any] | str | None = None
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    disable_any_whitespace: bool | None = None
    # What vLLM's clients send along: only what asks for nothing is taken. There is nothing to fall
    # back to here.
    disable_additional_properties: bool | None = None
    disable_fallback: bool | None = None
    whitespace_pattern: None = None
    structural_tag: None = None


class Generation(msgspec.Struct, kw_only=True):
    """Fields that all endpoints share. None means: not given."""

    model: str | None = None  # there is one, so nobody has to name it
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    best_of: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    ignore_eos: bool | None = None
    cache_salt: str | None = None
    priority: int | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    # Known but not honoured; see _NEUTRAL.
    functions: Any = None
    function_call: Any = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
    modalities: Any = None
    audio: Any = None
    suffix: Any = None
    logits_processors: Any = None
    use_beam_search: Any = None
    allowed_token_ids: Any = None
    bad_words: Any = None
    prompt_logprobs: Any = None
    prompt_embeds: Any = None
    truncate_prompt_tokens: Any = None
    return_token_ids: Any = None
    return_tokens_as_token_ids: Any = None
    logprob_token_ids: Any = None
    thinking_token_budget: Any = None
    lora_path: Any = None
    # The same under the names of SGLang and llama.cpp.
    regex: Any = None
    ebnf: Any = None
    json_schema: Any = None
    grammar: Any = None
    stop_regex: Any = None
    min_new_tokens: Any = None
    max_new_tokens: Any = None
    n_predict: Any = None
    no_stop_trim: Any = None
    continue_final_message: Any = None
    add_generation_prompt: Any = None

    own_neutral: ClassVar[dict[str, tuple[object, ...]]] = {}
    """What _NEUTRAL is, for the fields that this endpoint alone does not honour."""


CHATS_ALONE: Mapping[str, tuple[object, ...]] = {
    "continue_final_message": (False,),
    "add_generation_prompt": (True,),
}
"""Of Generation's, but honoured by chat."""


class ChatRequest(Generation, kw_only=True):
    messages: list[Message]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    include_reasoning: bool | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    # Known but not honoured.
    echo: Any = None
    add_special_tokens: Any = None
    chat_template: Any = None
    documents: Any = None
    moderation: Any = None
    web_search_options: Any = None

    own_neutral: ClassVar[dict[str, tuple[object, ...]]] = {
        "echo": (False,),
        "add_special_tokens": (False,),
        "chat_template": (),
        "documents": ([],),
        "moderation": (),
        "web_search_options": (),
    }


class CompletionRequest(Generation, kw_only=True):
    prompt: str | list[str | int | list[int]]
    echo: bool | None = None
    logprobs: int | None = None
    # Known but not honoured.
    tools: Any = None
    tool_choice: Any = None
    add_special_tokens: Any = None

    own_neutral: ClassVar[dict[str, tuple[object, ...]]] = {
        **CHATS_ALONE,
        "add_special_tokens": (True,),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
    }


# The values, besides null, that ask for nothing.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "functions": ([],),
    "function_call": ("none", "auto"),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "modalities": (["text"],),
    "audio": (),
    "suffix": ("",),
    "logits_processors": ([],),
    "use_beam_search": (False,),
    "allowed_token_ids": (),
    "bad_words": ([],),
    "prompt_logprobs": (),
    "prompt_embeds": (),
    "truncate_prompt_tokens": (),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "logprob_token_ids": ([],),
    "thinking_token_budget": (),
    "lora_path": (),
    "regex": (),
    "ebnf": (),
    "json_schema": (),
    "grammar": (),
    "stop_regex": ([],),
    "min_new_tokens": (0,),
    "max_new_tokens": (),
    "n_predict": (),
    "no_stop_trim": (False,),
}

_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"missing required field `(?P<field>[^`]*)`")
RequestT = TypeVar("RequestT", bound=Generation)
T = TypeVar("T")


def parse_body(kind: type[RequestT], body: bytes) -> RequestT:
    """Raises InvalidRequest, which never repeats the body, for whatever is wrong with it."""
    request = decode_body(kind, body)
    for name, neutral in (_NEUTRAL | kind.own_neutral).items():
        value = getattr(request, name)
        if value is not None and value not in neutral:
            raise InvalidRequest(f"'{name}' is not supported by this server.", param=name)
    return request


def decode_body(kind: type[T], body: bytes) -> T:
    """The same for a body whose every known field is honoured. Numbers may come as JSON out of
    floats has them, or as texts: other servers have taught their clients so."""
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise _wrong_type(str(error)) from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest("The body is not valid JSON in UTF-8.") from None


def convert(value: object, kind: type[T], where: str) -> T:
    """A part of a body, which lies at this path, as what it was found to be. Raises
    InvalidRequest."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _wrong_type(str(error), where) from None


def _wrong_type(message: str, within: str = "") -> InvalidRequest:
    path = _PATH.search(message)
    missing = _MISSING.search(message)
    found = [within, path and path["path"], missing and missing["field"]]
    where = ".".join(part for part in found if part)
    message = message.replace("`$", f"`$.{within}") if within else message
    return InvalidRequest(f"Invalid request: {message}.", param=where or None)
