"""Streamed answers: each piece becomes the bytes of its server-sent events.

The hot path of the router: what a stream repeats is encoded once, per piece only the new text is.
A token without text (half a character, a special token, the beginning of a stop string) is told by
an empty text: clients measure by it, and load generators fail a stream that says nothing. Knows the
shapes of chunks; knows no HTTP.
"""

from typing import Any, Protocol

import msgspec

from baton.common.errors import BatonError
from baton.router.openai.answer import (
    call_reader,
    delta_of,
    read_events,
    reason_of,
    thought_fields,
)
from baton.router.openai.errors import error_object
from baton.router.openai.generate import Piece
from baton.router.openai.logprobs import chat_entries
from baton.router.openai.plan import Plan
from baton.router.openai.responses import Head, Usage, completion_lists, echo_text
from baton.router.text import TextModel

DONE = b"data: [DONE]\n\n"
_json = msgspec.json.Encoder().encode


class Chunks(Protocol):
    def opening(self) -> bytes:
        """Events before the first piece."""

    def piece(self, piece: Piece) -> bytes:
        """Events of a piece; empty where it has nothing to say."""

    def closing(self, usage: Usage) -> bytes:
        """Events after the last piece."""

    def failure(self, error: BatonError) -> bytes:
        """Events instead of all that was still to come."""


class _Frame:
    """The parts around what changes: `data: {head, "choices":[{"index":i, ... }]}`."""

    def __init__(self, kind: str, head: Head, *, include_usage: bool) -> None:
        shared = {"id": head.id, "object": kind, "created": head.created, "model": head.model}
        self._head = b"data: " + _json(shared)[:-1] + b',"choices":['
        self._include_usage = include_usage
        self.tail = b"}]" + (b',"usage":null' if include_usage else b"") + b"}\n\n"

    def choice(self, index: int) -> bytes:
        return self._head + b'{"index":%d,' % index

    def closing(self, usage: Usage) -> bytes:
        if not self._include_usage:
            return DONE
        return self._head + b'],"usage":' + _json(usage.body()) + b"}\n\n" + DONE


class ChatChunks:
    """`chat.completion.chunk` events."""

    def __init__(self, plan: Plan, head: Head, model: TextModel) -> None:
        self._frame = _Frame("chat.completion.chunk", head, include_usage=plan.include_usage)
        self._logprobs = plan.logprobs is not None
        self._tokenizer = model.tokenizer
        self._starts = [self._frame.choice(choice.index) for choice in plan.choices]
        self._plain_end = b'},"logprobs":null,"finish_reason":null' + self._frame.tail

    def opening(self) -> bytes:
        role = b'"delta":{"role":"assistant","content":""' + self._plain_end
        return b"".join(start + role for start in self._starts)

    def piece(self, piece: Piece) -> bytes:
        start = self._starts[piece.index]
        events = b""
        if self._logprobs and piece.samples:
            entries = {"content": chat_entries(piece.samples, self._tokenizer), "refusal": None}
            events = (
                start
                + b'"delta":{"content":%b},"logprobs":%b,"finish_reason":null'
                % (_json(piece.text), _json(entries))
                + self._frame.tail
            )
        elif piece.text or (piece.samples and piece.finish is None):
            events = start + b'"delta":{"content":' + _json(piece.text) + self._plain_end
        if piece.finish is not None:
            ended = b'"delta":{},"logprobs":null,"finish_reason":%b,"stop_reason":%b'
            events += start + ended % (_json(piece.finish.value), _json(piece.stop))
            events += self._frame.tail
        return events

    def closing(self, usage: Usage) -> bytes:
        return self._frame.closing(usage)

    def failure(self, error: BatonError) -> bytes:
        return error_event(error)


class PartedChunks(ChatChunks):
    """`chat.completion.chunk` events of answers that may have more than text: thoughts and
    calls."""

    def __init__(self, plan: Plan, head: Head, model: TextModel) -> None:
        super().__init__(plan, head, model)
        self._readers = [call_reader(plan.calling, head.id, one.index) for one in plan.choices]

    def piece(self, piece: Piece) -> bytes:
        reader = self._readers[piece.index]
        deltas = [thought_fields(piece.thought)] if piece.thought else []
        deltas += [delta_of(event) for event in read_events(reader, piece.text, piece.finish)]
        logprobs: dict[str, Any] | None = None
        if self._logprobs and piece.samples:
            logprobs = {"content": chat_entries(piece.samples, self._tokenizer), "refusal": None}
        if not deltas and piece.samples and (logprobs or piece.finish is None):
            deltas = [{"content": ""}]
        told = [
            self._event(piece.index, delta, logprobs if number == 0 else None)
            for number, delta in enumerate(deltas)
        ]
        if piece.finish is not None:
            reason = reason_of(piece.finish, reader)
            told.append(self._event(piece.index, {}, None, reason, stop_reason=piece.stop))
        return b"".join(told)

    def _event(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: object,
        reason: str | None = None,
        **last: object,
    ) -> bytes:
        told = {"delta": delta, "logprobs": logprobs, "finish_reason": reason, **last}
        return self._starts[index] + _json(told)[1:-1] + self._frame.tail


def chat_chunks(plan: Plan, head: Head, model: TextModel) -> Chunks:
    if plan.calling is None and plan.thinking is None:
        return ChatChunks(plan, head, model)
    return PartedChunks(plan, head, model)


class CompletionChunks:
    """`text_completion` events."""

    def __init__(self, plan: Plan, head: Head, model: TextModel) -> None:
        self._frame = _Frame("text_completion", head, include_usage=plan.include_usage)
        self._starts = [self._frame.choice(choice.index) + b'"text":' for choice in plan.choices]
        self._echoes = {c.index: echo_text(plan, c, model) for c in plan.choices if plan.echo}
        self._lists = (
            None
            if plan.logprobs is None
            else [completion_lists(choice, model) for choice in plan.choices]
        )

    def opening(self) -> bytes:
        return b""

    def piece(self, piece: Piece) -> bytes:
        text = self._echoes.pop(piece.index, "") + piece.text
        logprobs = b"null"
        if self._lists is not None:
            told = self._lists[piece.index].add(piece.prompt_logprobs, piece.samples)
            logprobs = _json(told) if told["tokens"] else b"null"
        if not text and piece.finish is None and not piece.samples:
            return b""
        return (
            self._starts[piece.index]
            + _json(text)
            + b',"logprobs":%b,"finish_reason":%b' % (logprobs, _finish(piece))
            + self._frame.tail
        )

    def closing(self, usage: Usage) -> bytes:
        return self._frame.closing(usage)

    def failure(self, error: BatonError) -> bytes:
        return error_event(error)


def error_event(error: BatonError) -> bytes:
    """For an error after the first byte, when the status can no longer tell it; ends the stream."""
    body: dict[str, Any] = error_object(error)
    return b"data: " + _json(body) + b"\n\n" + DONE


def _finish(piece: Piece) -> bytes:
    """And what stopped it, in the last one."""
    if piece.finish is None:
        return b"null"
    return _json(piece.finish.value) + b',"stop_reason":' + _json(piece.stop)
