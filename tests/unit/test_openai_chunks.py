"""The bytes of streams and bodies: exactly OpenAI's shapes, whatever text they carry."""

import json
from dataclasses import replace
from typing import Any

import pytest
from baton.common.errors import Overloaded
from baton.engine.params import FinishReason, SamplingParams, TokenLogprob, TokenSample
from baton.router.detokenize import TextOptions
from baton.router.openai import chunks, responses
from baton.router.openai.generate import Piece
from baton.router.openai.logprobs import LOGPROB_MIN, CompletionLists, chat_entries
from baton.router.openai.plan import Choice, Plan
from baton.router.openai.prompts import Prompt
from baton.router.openai.responses import Head, Usage
from baton.router.openai.thoughts import Thinking
from baton.router.openai.tools.syntax import HERMES
from support.byte_tokenizer import BOS, EOS, ByteTokenizer, byte_model
from support.tool_requests import calling

HEAD = Head("id-1", 1_700_000_000, 'bytes "quoted"')
CHOICE = Choice(0, Prompt((1, 2), "ab"), True, SamplingParams(max_tokens=4), TextOptions(), False)
PLAN = Plan((CHOICE,), True, False, None, False, b"")
TRICKY = 'quote " slash \\ newline \n é 🎼 \x00 </script>'
STOP = FinishReason.STOP


def events(data: bytes) -> list[Any]:
    parts = data.decode().split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") for part in parts)
    bodies = [part.removeprefix("data: ") for part in parts]
    return [body if body == "[DONE]" else json.loads(body) for body in bodies]


def chunk(index: int = 0, **choice: object) -> dict[str, object]:
    ending = {"stop_reason": None} if "finish_reason" in choice else {}
    return {
        "id": "id-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": 'bytes "quoted"',
        "choices": [{"index": index, "logprobs": None, "finish_reason": None, **ending, **choice}],
    }


def test_chat_chunks() -> None:
    stream = chunks.ChatChunks(PLAN, HEAD, byte_model())
    assert events(stream.opening()) == [chunk(delta={"role": "assistant", "content": ""})]
    assert events(stream.piece(Piece(0, TRICKY, ()))) == [chunk(delta={"content": TRICKY})]
    # A token whose text is held back is told all the same; what is no token is not.
    held = events(stream.piece(Piece(0, "", (TokenSample(1),))))
    assert held == [chunk(delta={"content": ""})]
    assert stream.piece(Piece(0, "", ())) == b""
    assert events(stream.piece(Piece(0, "x", (), STOP))) == [
        chunk(delta={"content": "x"}),
        chunk(delta={}, finish_reason="stop"),
    ]
    assert events(stream.closing(Usage(2, 1))) == ["[DONE]"]


def test_chunks_of_an_answer_that_calls_tools() -> None:
    plan = replace(PLAN, calling=calling(HERMES))
    stream = chunks.chat_chunks(plan, HEAD, byte_model())
    assert events(stream.piece(Piece(0, "Hm.", ()))) == [chunk(delta={"content": "Hm."})]
    # White space that a call may follow, and a call's own frame, are told as tokens without text.
    assert events(stream.piece(Piece(0, "\n<tool_call>", (TokenSample(1),)))) == [
        chunk(delta={"content": ""})
    ]
    begun, argued = events(stream.piece(Piece(0, '\n{"name": "clock", "arguments": {', ())))
    (call,) = begun["choices"][0]["delta"].pop("tool_calls")
    assert call.pop("id").startswith("call_")
    function = {"name": "clock", "arguments": ""}
    assert call == {"index": 0, "type": "function", "function": function}
    assert begun == chunk(delta={})
    more = {"index": 0, "function": {"arguments": "{"}}
    assert argued == chunk(delta={"tool_calls": [more]})
    last, end = events(stream.piece(Piece(0, "}}\n</tool_call>", (TokenSample(2),), STOP)))
    assert last["choices"][0]["delta"]["tool_calls"][0]["function"] == {"arguments": "}"}
    assert end == chunk(delta={}, finish_reason="tool_calls")


def test_chunks_of_an_answer_that_is_thought_about() -> None:
    stream = chunks.chat_chunks(
        replace(PLAN, thinking=Thinking(True, True, None)), HEAD, byte_model()
    )
    thought = {"reasoning": "Hm.", "reasoning_content": "Hm."}
    assert events(stream.piece(Piece(0, "", (), thought="Hm."))) == [chunk(delta=thought)]
    # A mark is told as a token without text.
    assert events(stream.piece(Piece(0, "", (TokenSample(1),)))) == [chunk(delta={"content": ""})]
    both = events(stream.piece(Piece(0, "Yes.", (TokenSample(1),), STOP, thought="Hm.")))
    assert both == [
        chunk(delta=thought),
        chunk(delta={"content": "Yes."}),
        chunk(delta={}, finish_reason="stop"),
    ]


def test_logprobs_of_a_call_come_once_with_each_piece() -> None:
    plan = replace(PLAN, calling=calling(HERMES), logprobs=0)
    stream = chunks.chat_chunks(plan, HEAD, byte_model())
    text = '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
    told = events(stream.piece(Piece(0, text, (TokenSample(65, -0.5),))))
    told += events(stream.piece(Piece(0, "", (TokenSample(66, -0.5),), STOP)))
    logprobs = [event["choices"][0]["logprobs"] for event in told]
    tokens = [[entry["token"] for entry in entries["content"]] for entries in logprobs if entries]
    assert tokens == [["A"], ["B"]]
    assert told[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_usage_has_a_chunk_of_its_own_and_is_null_in_the_others() -> None:
    stream = chunks.ChatChunks(replace(PLAN, include_usage=True), HEAD, byte_model())
    assert events(stream.piece(Piece(0, "x", ()))) == [
        {**chunk(delta={"content": "x"}), "usage": None}
    ]
    last, done = events(stream.closing(Usage(2, 3, 1)))
    assert last == {
        **chunk(),
        "choices": [],
        "usage": {
            "prompt_tokens": 2,
            "completion_tokens": 3,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }
    assert done == "[DONE]"


def test_completion_chunks_echo_once_and_count_offsets_on() -> None:
    plan = replace(PLAN, echo=True, logprobs=0)
    stream = chunks.CompletionChunks(plan, HEAD, byte_model())
    assert stream.opening() == b""
    (first,) = events(stream.piece(Piece(0, "c", (TokenSample(99, -0.5),))))
    (second,) = events(stream.piece(Piece(0, "d", (TokenSample(100, -1.5),), STOP)))
    assert first["object"] == "text_completion"
    assert first["choices"][0]["text"] == "abc"
    assert second["choices"] == [
        {
            "index": 0,
            "text": "d",
            "logprobs": {
                "tokens": ["d"],
                "token_logprobs": [-1.5],
                "top_logprobs": [{"d": -1.5}],
                "text_offset": [1],
            },
            "finish_reason": "stop",
            "stop_reason": None,
        }
    ]


def test_an_error_ends_a_stream() -> None:
    error, done = events(chunks.error_event(Overloaded("x" * 10_000)))
    assert set(error) == {"error"}
    assert error["error"]["type"] == "rate_limit_error"
    assert len(error["error"]["message"]) == 500
    assert done == "[DONE]"


def test_choices_of_a_body_are_gathered_by_index() -> None:
    plan = replace(PLAN, choices=(CHOICE, replace(CHOICE, index=1)))
    pieces = [Piece(1, "y", ()), Piece(0, "x", ()), Piece(1, "!", (), STOP), Piece(0, "", (), STOP)]
    body = responses.chat_completion(plan, HEAD, byte_model(), pieces, Usage(2))
    assert [choice["message"]["content"] for choice in body["choices"]] == ["x", "y!"]
    assert body["object"] == "chat.completion"


@pytest.mark.parametrize("logprob", [float("-inf"), float("nan")])
def test_json_has_no_infinities(logprob: float) -> None:
    (entry,) = chat_entries([TokenSample(65, logprob)], ByteTokenizer())
    assert entry == {"token": "A", "logprob": LOGPROB_MIN, "bytes": [65], "top_logprobs": []}


def test_parts_of_a_character_keep_their_bytes_and_move_the_offset_once() -> None:
    samples = [TokenSample(i, -1.0) for i in (BOS, 0xC3, 0xA9, 0x61)]
    entries = chat_entries(samples, ByteTokenizer())
    assert [entry["bytes"] for entry in entries[1:]] == [[0xC3], [0xA9], [0x61]]
    lists = CompletionLists(ByteTokenizer(), skip_special=True).add((), samples)
    assert lists["tokens"] == ["<s>", "\N{REPLACEMENT CHARACTER}", "\N{REPLACEMENT CHARACTER}", "a"]
    assert lists["text_offset"] == [0, 0, 0, 1]


def offsets(prompt: str | None, ids: list[int], *, skip_special: bool) -> list[int]:
    lists = CompletionLists(ByteTokenizer(), skip_special=skip_special, prompt=prompt)
    told = lists.add([TokenSample(i) for i in ids], [TokenSample(0x61, -1.0)])
    return list(told["text_offset"])


@pytest.mark.parametrize("skip_special", [True, False])
def test_offsets_count_what_is_echoed(skip_special: bool) -> None:
    # As a text it is echoed as it was written, special tokens too, but none that was put in front.
    assert offsets("a</s>b", [BOS, 0x61, EOS, 0x62], skip_special=skip_special) == [0, 0, 1, 5, 6]
    assert offsets("<s>b", [BOS, 0x62], skip_special=skip_special) == [0, 3, 4]


def test_offsets_of_ids_count_what_is_decoded_of_them() -> None:
    assert offsets(None, [BOS, 0x61, EOS], skip_special=True) == [0, 0, 1, 1]
    assert offsets(None, [BOS, 0x61, EOS], skip_special=False) == [0, 3, 4, 8]


def test_alternatives_always_hold_the_chosen_token() -> None:
    sample = TokenSample(65, -3.0, (TokenLogprob(66, -1.0),))
    lists = CompletionLists(ByteTokenizer(), skip_special=True).add((), [sample])
    assert lists["top_logprobs"] == [{"B": -1.0, "A": -3.0}]
