"""The events of a streamed response: OpenAI's order and numbers, and the whole one in the end."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from baton.common.errors import InvalidRequest, Overloaded, WorkerFailed
from baton.engine.params import FinishReason, SamplingParams, TokenSample
from baton.router.detokenize import TextOptions
from baton.router.openai.generate import Piece
from baton.router.openai.plan import Choice, Plan
from baton.router.openai.prompts import Prompt
from baton.router.openai.responses import Head, Usage
from baton.router.openai.responses_api.body import whole_response
from baton.router.openai.responses_api.events import ResponseEvents
from baton.router.openai.responses_api.request import ResponsesRequest
from baton.router.openai.schemas import parse_body
from baton.router.openai.thoughts import Thinking
from baton.router.openai.tools.syntax import HERMES
from support.byte_tokenizer import byte_model
from support.tool_requests import calling, hermes_call

HEAD = Head("resp_1", 1_700_000_000, "bytes")
CHOICE = Choice(0, Prompt((1, 2), "ab"), True, SamplingParams(max_tokens=4), TextOptions(), False)
PLAN = Plan((CHOICE,), True, False, None, False, b"")
CALLING = replace(PLAN, calling=calling(HERMES))
THINKING = replace(PLAN, thinking=Thinking(begun=False, told=True, closing_id=None))
ASKED = parse_body(ResponsesRequest, b'{"model": "bytes", "input": "hi"}')
TWO_CALLS = f"Hm.\n{hermes_call('clock')}\n{hermes_call('weather', city='é')}"
STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH


def streaming(plan: Plan = PLAN) -> ResponseEvents:
    return ResponseEvents(ASKED, plan, HEAD, byte_model())


def events(data: bytes) -> list[Any]:
    *parts, end = data.decode().split("\n\n")
    assert end == ""
    told = []
    for part in parts:
        event, body = part.split("\n")
        told.append(json.loads(body.removeprefix("data: ")))
        assert event == f"event: {told[-1]['type']}"
    return told


def streamed(plan: Plan, pieces: list[Piece]) -> list[Any]:
    stream = streaming(plan)
    data = [stream.opening(), *map(stream.piece, pieces), stream.closing(Usage(2, 3, 1))]
    return events(b"".join(data))


def split(text: str, size: int, finish: FinishReason = STOP) -> list[Piece]:
    pieces = [Piece(0, text[at : at + size], ()) for at in range(0, len(text), size)]
    return [*pieces, Piece(0, "", (), finish)]


def names(told: list[Any]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in told]


def test_the_events_of_a_text() -> None:
    told = streamed(PLAN, split("hi", 1))
    assert names(told) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    place = {"item_id": "msg_1_0", "output_index": 0, "content_index": 0, "logprobs": []}
    delta = {"type": "response.output_text.delta", "sequence_number": 4, **place, "delta": "h"}
    assert told[4] == delta
    # Each tells of what it is then: clients put the text together themselves.
    assert told[2]["item"]["content"] == []
    assert told[3]["part"]["text"] == ""
    assert told[8]["item"]["content"][0]["text"] == "hi"


def test_the_events_of_calls() -> None:
    told = streamed(CALLING, split(TWO_CALLS, 1_000))
    call = [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    assert names(told)[8:] == [*call, *call, "completed"]
    added = [event["item"] for event in told if event["type"] == "response.output_item.added"]
    assert [item["type"] for item in added] == ["message", "function_call", "function_call"]
    assert added[2]["arguments"] == ""


@pytest.mark.parametrize("size", [1, 2, 7, 1_000])
@pytest.mark.parametrize("finish", [STOP, LENGTH])
@pytest.mark.parametrize(
    ("plan", "text"),
    [
        pytest.param(PLAN, "", id="nothing"),
        pytest.param(PLAN, "hi", id="text"),
        pytest.param(CALLING, "hi", id="text-beside-tools"),
        pytest.param(CALLING, hermes_call("clock"), id="call"),
        pytest.param(CALLING, TWO_CALLS, id="calls"),
        pytest.param(CALLING, TWO_CALLS[:-20], id="cut-call"),
    ],
)
def test_streamed_and_whole_are_the_same_in_the_end(
    plan: Plan, text: str, finish: FinishReason, size: int
) -> None:
    pieces = split(text, size, finish)
    told = streamed(plan, pieces)
    whole = whole_response(ASKED, plan, HEAD, byte_model(), pieces, Usage(2, 3, 1))
    assert told[-1]["response"] == msgspec.to_builtins(whole)
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert done == whole["output"]


@pytest.mark.parametrize(
    ("plan", "text", "status", "items"),
    [
        pytest.param(PLAN, "hi", "incomplete", ["incomplete"], id="text"),
        pytest.param(
            CALLING, TWO_CALLS, "incomplete", ["completed"] * 3, id="behind-the-last-call"
        ),
        pytest.param(
            CALLING,
            TWO_CALLS[:-20],
            "incomplete",
            ["completed", "completed", "incomplete"],
            id="within-a-call",
        ),
    ],
)
def test_the_limit_is_told_by_statuses(
    plan: Plan, text: str, status: str, items: list[str]
) -> None:
    body = streamed(plan, split(text, 3, LENGTH))[-1]["response"]
    assert body["status"] == status
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in body["output"]] == items


def test_a_token_without_text_is_told_all_the_same() -> None:
    stream = streaming()
    assert names(events(stream.piece(Piece(0, "", (TokenSample(1),)))))[-1] == "output_text.delta"
    assert stream.piece(Piece(0, "", ())) == b""
    assert "output_text.delta" not in names(events(stream.piece(Piece(0, "", (), STOP))))


def test_logprobs_are_those_of_the_text() -> None:
    plan = replace(CALLING, logprobs=0)
    pieces = [Piece(0, char, (TokenSample(ord(char), -0.5),)) for char in "Hm.\n"]
    call = Piece(0, hermes_call("clock"), (TokenSample(67, -0.5),))
    told = streamed(plan, [*pieces, call, Piece(0, "", (TokenSample(68, -0.5),), STOP)])
    deltas = [event for event in told if event["type"] == "response.output_text.delta"]
    assert [[e["token"] for e in delta["logprobs"]] for delta in deltas] == [["H"], ["m"], ["."]]
    (part,) = told[-1]["response"]["output"][0]["content"]
    assert [entry["token"] for entry in part["logprobs"]] == ["H", "m", "."]


def test_logprobs_of_the_finishing_token_end_a_text() -> None:
    plan = replace(PLAN, logprobs=0)
    sample = TokenSample(65, -0.5)
    told = streamed(plan, [Piece(0, "A", (sample,)), Piece(0, "", (sample,), STOP)])
    assert len(told[-1]["response"]["output"][0]["content"][0]["logprobs"]) == 2


def test_the_events_of_thoughts() -> None:
    pieces = [Piece(0, "", (TokenSample(1),)), Piece(0, "", (), thought="Hm.", thought_tokens=1)]
    told = streamed(THINKING, [*pieces, Piece(0, "", (TokenSample(1),)), *split("hi", 2)])
    assert names(told)[2:] == [
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    reasoning, message = told[-1]["response"]["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert (reasoning["summary"], reasoning["status"]) == ([], "completed")
    assert message["content"][0]["text"] == "hi"
    assert told[-1]["response"] == msgspec.to_builtins(
        whole_response(
            ASKED,
            THINKING,
            HEAD,
            byte_model(),
            [*pieces, *split("hi", 2)],
            Usage(2, 3, 1),
        )
    )


@pytest.mark.parametrize(
    ("finish", "statuses"),
    [(LENGTH, ["incomplete"]), (STOP, ["completed", "completed"])],
    ids=["cut", "nothing-said"],
)
def test_thoughts_that_nothing_is_said_after(finish: FinishReason, statuses: list[str]) -> None:
    pieces = [Piece(0, "", (), thought="Hm."), Piece(0, "", (), finish)]
    body = streamed(THINKING, pieces)[-1]["response"]
    assert [item["status"] for item in body["output"]] == statuses
    assert [item["type"] for item in body["output"]] == ["reasoning", "message"][: len(statuses)]


def test_tokens_of_thoughts_have_no_logprobs() -> None:
    plan = replace(THINKING, logprobs=0)
    tokens = tuple(TokenSample(ord(char), -0.5) for char in "abc")
    piece = Piece(0, "c", tokens, STOP, thought="ab", thought_tokens=2)
    *_, message = streamed(plan, [Piece(0, "", tokens[:1]), piece])[-1]["response"]["output"]
    assert [entry["token"] for entry in message["content"][0]["logprobs"]] == ["c"]


def test_an_error_ends_the_stream_in_two_events() -> None:
    stream = streaming()
    stream.opening()
    stream.piece(Piece(0, "hi", ()))
    error, failed = events(stream.failure(WorkerFailed("x" * 10_000, param="y")))
    assert set(error) == {"type", "sequence_number", "code", "message", "param"}
    assert (error["type"], error["code"], error["param"]) == ("error", "worker_failed", "y")
    assert len(error["message"]) == 500
    assert failed["sequence_number"] == error["sequence_number"] + 1
    body = failed["response"]
    assert body["status"] == "failed"
    assert body["error"] == {"code": "server_error", "message": error["message"]}
    (message,) = body["output"]
    assert (message["status"], message["content"][0]["text"]) == ("incomplete", "hi")


@pytest.mark.parametrize(
    ("error", "code"),
    [(Overloaded("x"), "rate_limit_exceeded"), (InvalidRequest("x"), "invalid_prompt")],
)
def test_a_response_that_fails_at_once_was_created(error: Overloaded, code: str) -> None:
    told = events(streaming().failure(error))
    assert names(told) == ["created", "in_progress", "error", "failed"]
    assert told[-1]["response"]["error"]["code"] == code
