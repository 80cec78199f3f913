"""Whole answers: the pieces of all choices, gathered into OpenAI's response bodies.

Knows the shapes; knows no streams and no HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from baton.engine.params import FinishReason, TokenSample
from baton.router.openai.answer import (
    NO_THOUGHT,
    call_reader,
    message_of,
    read_events,
    reason_of,
    thought_fields,
)
from baton.router.openai.generate import Piece
from baton.router.openai.logprobs import CompletionLists, chat_entries
from baton.router.openai.plan import Choice, Plan
from baton.router.text import TextModel


@dataclass(frozen=True, slots=True)
class Head:
    """What every body and every chunk of one answer repeats."""

    id: str
    created: int  # Unix seconds
    model: str


@dataclass(slots=True)
class Usage:
    """Token counts of one request; grows with its pieces."""

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: int = 0
    thought_tokens: int = 0  # of the completion's

    def add(self, piece: Piece) -> None:
        self.completion_tokens += len(piece.samples)
        self.cached_tokens += piece.cached_tokens
        self.thought_tokens += piece.thought_tokens

    def body(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.thought_tokens},
        }


@dataclass(slots=True)
class _Whole:
    """One choice, gathered."""

    thoughts: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    samples: list[TokenSample] = field(default_factory=list)
    prompt_logprobs: tuple[TokenSample, ...] = ()
    finish: FinishReason | None = None
    stop: str | int | None = None

    @property
    def finish_reason(self) -> str | None:
        return None if self.finish is None else self.finish.value


def _gathered(plan: Plan, pieces: Sequence[Piece]) -> list[_Whole]:
    wholes = [_Whole() for _ in plan.choices]
    for piece in pieces:
        whole = wholes[piece.index]
        whole.thoughts.append(piece.thought)
        whole.texts.append(piece.text)
        whole.samples.extend(piece.samples)
        whole.prompt_logprobs = whole.prompt_logprobs or piece.prompt_logprobs
        whole.finish, whole.stop = piece.finish, piece.stop
    return wholes


def chat_completion(
    plan: Plan, head: Head, model: TextModel, pieces: Sequence[Piece], usage: Usage
) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            **_spoken(plan, head, index, whole),
            "logprobs": None
            if plan.logprobs is None
            else {"content": chat_entries(whole.samples, model.tokenizer), "refusal": None},
        }
        for index, whole in enumerate(_gathered(plan, pieces))
    ]
    return _body("chat.completion", head, choices, usage)


def _spoken(plan: Plan, head: Head, index: int, whole: _Whole) -> dict[str, Any]:
    """The message of a choice and why it ended."""
    reader = call_reader(plan.calling, head.id, index)
    events = read_events(reader, "".join(whole.texts), whole.finish)
    message = {
        "role": "assistant",
        "refusal": None,
        **(NO_THOUGHT if plan.thinking is not None else {}),
        **thought_fields("".join(whole.thoughts)),
        **message_of(events),
    }
    return {
        "message": message,
        "finish_reason": reason_of(whole.finish, reader),
        "stop_reason": whole.stop,
    }


def text_completion(
    plan: Plan, head: Head, model: TextModel, pieces: Sequence[Piece], usage: Usage
) -> dict[str, Any]:
    choices = [
        {
            "index": choice.index,
            "text": echo_text(plan, choice, model) + "".join(whole.texts),
            "logprobs": None
            if plan.logprobs is None
            else completion_lists(choice, model).add(whole.prompt_logprobs, whole.samples),
            "finish_reason": whole.finish_reason,
            "stop_reason": whole.stop,
        }
        for choice, whole in zip(plan.choices, _gathered(plan, pieces), strict=True)
    ]
    return _body("text_completion", head, choices, usage)


def echo_text(plan: Plan, choice: Choice, model: TextModel) -> str:
    """What stands before the output: the prompt, if asked for."""
    if not plan.echo:
        return ""
    text = choice.prompt.text
    if text is not None:
        return text
    skip_special = choice.text.skip_special
    return model.tokenizer.decode(choice.prompt.token_ids, skip_special=skip_special)


def completion_lists(choice: Choice, model: TextModel) -> CompletionLists:
    return CompletionLists(
        model.tokenizer, skip_special=choice.text.skip_special, prompt=choice.prompt.text
    )


def models_body(model: TextModel, context_length_max: int) -> dict[str, Any]:
    return {"object": "list", "data": [model_body(model, context_length_max)]}


def model_body(model: TextModel, context_length_max: int) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created_unix_s,
        "owned_by": "baton",
        "root": model.name,
        "parent": None,
        "max_model_len": context_length_max,
    }


def _body(kind: str, head: Head, choices: list[dict[str, Any]], usage: Usage) -> dict[str, Any]:
    return {
        "id": head.id,
        "object": kind,
        "created": head.created,
        "model": head.model,
        "choices": choices,
        "usage": usage.body(),
    }
