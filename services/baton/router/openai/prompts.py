"""Messages and prompts of OpenAI requests to token ids, every form they come in.

Knows the model's text side only: no sampling, no workers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from baton.common.errors import BatonError, InvalidRequest
from baton.router.openai.conversation import TemplateMessage, conversation
from baton.router.openai.schemas import Message
from baton.router.openai.tools.syntax import Syntax
from baton.router.openai.tools.use import Function
from baton.router.openai.tools.words import in_words
from baton.router.text import TextModel

PROMPTS_MAX = 1_024
"""Prompts in one completions request; evaluation harnesses send some dozens."""


class Ending(Enum):
    """Where the prompt of a chat stops."""

    ASSISTANT_SPEAKS = auto()  # behind what the template writes before an answer
    NOWHERE = auto()  # behind the last message
    GOES_ON = auto()  # within the last message, which the answer goes on with


@dataclass(frozen=True, slots=True)
class Prompt:
    token_ids: tuple[int, ...]  # at least one
    text: str | None  # None: the client gave token ids


async def chat_prompt(
    messages: Sequence[Message],
    variables: Mapping[str, object] | None,
    model: TextModel,
    *,
    functions: Sequence[Function],
    syntax: Syntax,
    ending: Ending,
    context_length_max: int,
) -> Prompt:
    """The conversation in the model's own template. `variables` are the request's own for the
    template; `functions` those that the model is told of."""
    told = conversation(messages)
    speaks = ending is Ending.ASSISTANT_SPEAKS
    if syntax.in_template:
        tools = [function.definition for function in functions] or None
        text = model.chat.render(
            told, tools=tools, variables=variables, add_generation_prompt=speaks
        )
    else:
        spoken = in_words(told, functions)
        text = model.chat.render(spoken, variables=variables, add_generation_prompt=speaks)
    if ending is Ending.GOES_ON:
        text = _up_to_last_message(text, told[-1])
    token_ids = await _tokenized(
        text, model, context_length_max, special_texts=True, param="messages"
    )
    return Prompt(_not_empty(token_ids, "messages"), text)


def _up_to_last_message(text: str, last: TemplateMessage) -> str:
    """Without what the template writes behind it. Raises InvalidRequest."""
    said: str = last["content"]
    if last["role"] != "assistant" or "tool_calls" in last or not said.strip():
        message = "Only a message in which the assistant says something can be continued."
        raise InvalidRequest(message, param="continue_final_message")
    start = text.rfind(said.strip())
    if start < 0:
        message = "This model's chat template does not show the last message as it is."
        raise InvalidRequest(message, param="continue_final_message")
    shown = said.lstrip() if text.startswith(said.lstrip(), start) else said.strip()
    return text[: start + len(shown)]


async def completion_prompts(
    prompt: str | list[str | int | list[int]], model: TextModel, *, context_length_max: int
) -> list[Prompt]:
    """A text, several texts, token ids, or several lists of token ids."""
    if isinstance(prompt, str):
        return [await _text_prompt(prompt, model, context_length_max)]
    if not prompt:
        raise InvalidRequest("'prompt' must not be empty.", param="prompt")
    if all(isinstance(entry, int) for entry in prompt):
        return [_ids_prompt([entry for entry in prompt if isinstance(entry, int)], model)]
    if len(prompt) > PROMPTS_MAX:
        message = f"'prompt' may have at most {PROMPTS_MAX} entries, not {len(prompt)}."
        raise InvalidRequest(message, param="prompt")
    prompts = []
    for entry in prompt:
        if isinstance(entry, int) or not isinstance(entry, type(prompt[0])):
            message = "'prompt' must be a text, texts, token ids, or lists of token ids."
            raise InvalidRequest(message, param="prompt")
        if isinstance(entry, str):
            prompts.append(await _text_prompt(entry, model, context_length_max))
        else:
            prompts.append(_ids_prompt(entry, model))
    return prompts


async def _text_prompt(text: str, model: TextModel, context_length_max: int) -> Prompt:
    token_ids = await _tokenized(
        text, model, context_length_max, special_texts=False, param="prompt"
    )
    return Prompt(_not_empty(token_ids, "prompt"), text)


async def _tokenized(
    text: str, model: TextModel, context_length_max: int, *, special_texts: bool, param: str
) -> tuple[int, ...]:
    """A template writes its special tokens out; a plain prompt gets them from the tokenizer."""
    try:
        return await model.tokenize(
            text,
            add_special=not special_texts,
            parse_special=True,
            context_length_max=context_length_max,
        )
    except BatonError as error:
        error.param = error.param or param
        raise


def _ids_prompt(token_ids: Sequence[int], model: TextModel) -> Prompt:
    if not all(0 <= token_id < model.vocab_size for token_id in token_ids):
        message = f"Each token id of 'prompt' must be from 0 to {model.vocab_size - 1}."
        raise InvalidRequest(message, param="prompt")
    return Prompt(_not_empty(tuple(token_ids), "prompt"), None)


def _not_empty(token_ids: tuple[int, ...], param: str) -> tuple[int, ...]:
    if not token_ids:
        raise InvalidRequest(f"'{param}' must not be empty.", param=param)
    return token_ids
