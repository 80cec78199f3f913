"""However an answer is cut into pieces, the same content and calls come of it."""

import json
from itertools import pairwise
from typing import Any

import pytest
from baton.router.openai.answer import message_of
from baton.router.openai.tools.syntax import HERMES, LLAMA3, Syntax
from baton.router.openai.tools.text import CallReader, Event
from hypothesis import given
from hypothesis import strategies as st
from support.tool_requests import calling, hermes_call, llama_call

# Fragments of calls among other text, so that every beginning of one is met.
FRAGMENTS = ["<tool_call>", "\n", '{"name": "', "clock", '", "arguments": ', '", "parameters": ']
FRAGMENTS += ["{", "}", '"', "\\", "</tool_call>", " ", "<", "x", "é"]
NOISE = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join)
CITIES = st.text(alphabet='a"\\{}\n</>é', max_size=8)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def message(syntax: Syntax, pieces: list[str]) -> dict[str, Any]:
    reader = CallReader(calling(syntax), answer_id="chatcmpl-1", choice=0)
    events: list[Event] = []
    for piece in pieces:
        events += reader.feed(piece)
    return message_of([*events, *reader.finish()])


def split(text: str, cuts: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    return [text[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize("syntax", [HERMES, LLAMA3], ids=["hermes", "llama"])
@given(before=NOISE, city=CITIES, behind=NOISE, cuts=CUTS)
def test_any_split_reads_as_the_whole(
    syntax: Syntax, before: str, city: str, behind: str, cuts: list[int]
) -> None:
    call = hermes_call if syntax is HERMES else llama_call
    text = before + call("weather", city=city) + behind
    whole = message(syntax, [text])
    assert message(syntax, split(text, cuts)) == whole
    assert message(syntax, list(text)) == whole


@given(content=st.text(alphabet="ab <\n", max_size=20), cities=st.lists(CITIES, max_size=3))
def test_calls_are_read_as_they_were_written(content: str, cities: list[str]) -> None:
    calls = [hermes_call("weather", city=city) for city in cities]
    read = message(HERMES, list("\n".join([content, *calls])))
    told = [call["function"]["arguments"] for call in read.get("tool_calls", [])]
    assert [json.loads(arguments) for arguments in told] == [{"city": city} for city in cities]
    assert (read["content"] or "") == (content.rstrip() if calls else content)
