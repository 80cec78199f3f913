"""However an output is cut into pieces, the same thoughts and the same answer come of it."""

from itertools import pairwise

import pytest
from baton.router.openai.thoughts import Thinking, ThoughtReader
from hypothesis import given
from hypothesis import strategies as st

# Fragments of marks among other text, so that every beginning of one is met.
FRAGMENTS = ["<think>", "</think>", "<thi", "</thi", "nk>", "<", "/", "\n", " ", "x", "é"]
OUTPUTS = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join)
CUTS = st.lists(st.integers(0, 80), max_size=12)


def read(pieces: list[str], thinking: Thinking) -> tuple[str, str]:
    reader = ThoughtReader(thinking)
    splits = [*(reader.feed(piece, ()) for piece in pieces), reader.finish()]
    return "".join(s.thought for s in splits), "".join(s.text for s in splits)


@pytest.mark.parametrize("begun", [False, True], ids=["may-open", "begun"])
@given(output=OUTPUTS, cuts=CUTS)
def test_any_split_reads_as_the_whole(begun: bool, output: str, cuts: list[int]) -> None:
    thinking = Thinking(begun=begun, told=True, closing_id=None)
    edges = sorted({0, len(output), *(cut for cut in cuts if cut < len(output))})
    whole = read([output], thinking)
    assert read([output[start:end] for start, end in pairwise(edges)], thinking) == whole
    assert read(list(output), thinking) == whole


@given(thought=st.text(alphabet="ab <>\n", max_size=20), answer=st.text(max_size=20))
def test_what_stands_between_the_marks_is_the_thought(thought: str, answer: str) -> None:
    thinking = Thinking(begun=False, told=True, closing_id=None)
    output = f"<think>{thought}</think>{answer}"
    assert read(list(output), thinking) == (thought.strip(), answer.lstrip())
