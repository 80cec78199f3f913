"""Texts to token ids and back, for clients that count before they ask: vLLM's two endpoints.

Knows the model's text side; knows no sampling and no workers.
"""

import asyncio
from typing import Any

import msgspec

from baton.common.errors import InvalidRequest
from baton.router.openai.logprobs import token_text
from baton.router.openai.plan import asked_prompt
from baton.router.openai.schemas import ChatRequest, Message, Tool, decode_body
from baton.router.openai.service import Completions
from baton.router.openai.tools.use import tool_use
from baton.router.text import TextModel


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """A text, or messages as a chat has them."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    tools: list[Tool] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    tokens: list[int]
    model: str | None = None


async def tokenize(body: bytes, completions: Completions) -> dict[str, Any]:
    """As a request for a completion, or for a chat, would have it. Raises BatonError."""
    asked = decode_body(TokenizeRequest, body)
    completions.check_model(asked.model)
    model, limit = completions.model, completions.context_length_max
    token_ids = await _token_ids(asked, model, limit)
    texts: list[str] | None = None
    if asked.return_token_strs:
        texts = [token_text(model.tokenizer.token_bytes(token_id)) for token_id in token_ids]
    return {
        "count": len(token_ids),
        "max_model_len": limit,
        "tokens": token_ids,
        "token_strs": texts,
    }


async def detokenize(body: bytes, completions: Completions) -> dict[str, str]:
    """Special tokens are written out. Raises InvalidRequest."""
    asked = decode_body(DetokenizeRequest, body)
    completions.check_model(asked.model)
    tokenizer = completions.model.tokenizer
    if not all(0 <= token_id < tokenizer.vocab_size for token_id in asked.tokens):
        message = f"Each of 'tokens' must be from 0 to {tokenizer.vocab_size - 1}."
        raise InvalidRequest(message, param="tokens")
    text = await asyncio.to_thread(tokenizer.decode, asked.tokens, skip_special=False)
    return {"prompt": text}


async def _token_ids(asked: TokenizeRequest, model: TextModel, limit: int) -> tuple[int, ...]:
    if (asked.prompt is None) == (asked.messages is None):
        raise InvalidRequest("One of 'prompt' and 'messages' must be given.", param="prompt")
    if asked.prompt is not None:
        return await model.tokenize(
            asked.prompt,
            add_special=asked.add_special_tokens is not False,
            parse_special=True,
            context_length_max=limit,
        )
    if asked.add_special_tokens:
        message = "'add_special_tokens' is for a prompt: a chat's template writes them itself."
        raise InvalidRequest(message, param="add_special_tokens")
    chat = ChatRequest(
        messages=asked.messages or [],
        tools=asked.tools,
        chat_template_kwargs=asked.chat_template_kwargs,
        continue_final_message=asked.continue_final_message,
        add_generation_prompt=asked.add_generation_prompt,
    )
    return (await asked_prompt(chat, tool_use(chat), model, context_length_max=limit)).token_ids
