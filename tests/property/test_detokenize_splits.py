"""However an output is cut into tokens, its text is what decoding the whole at once gives."""

from itertools import pairwise

from baton.router.detokenize import Detokenizer, TextOptions
from hypothesis import given
from hypothesis import strategies as st

# Few letters make overlaps of stop strings and texts likely; the others need several bytes.
LETTERS = st.text(alphabet="ab\né🎼", max_size=30)
STOPS = st.lists(st.text(alphabet="ab\né", min_size=1, max_size=4), max_size=4, unique=True)


class SplitTokens:
    """Token i is the i-th part of the bytes."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    def token_bytes(self, token_id: int) -> bytes:
        return self._parts[token_id]

    def is_special(self, token_id: int) -> bool:
        return False


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def cut_at_once(text: str, stops: list[str], *, include: bool) -> str:
    """Letter by letter: the first end of any stop string, of several the longest."""
    for end in range(1, len(text) + 1):
        matched = [stop for stop in stops if text[:end].endswith(stop)]
        if matched:
            return text[: end if include else end - max(map(len, matched))]
    return text


def streamed(parts: list[bytes], options: TextOptions) -> tuple[list[str], bool]:
    detokenizer = Detokenizer(SplitTokens(parts), options)
    pieces = []
    for token_id in range(len(parts)):
        pieces.append(detokenizer.feed(token_id))
        if detokenizer.stopped:
            return pieces, True
    return [*pieces, detokenizer.finish()], detokenizer.stopped


@given(data=st.binary(max_size=40), cuts=st.lists(st.integers(0, 40), max_size=8))
def test_any_bytes_in_any_split_decode_as_a_whole(data: bytes, cuts: list[int]) -> None:
    pieces, _ = streamed(split(data, cuts), TextOptions())
    assert "".join(pieces) == data.decode("utf-8", "replace")


@given(
    text=LETTERS,
    stops=STOPS,
    cuts=st.lists(st.integers(0, 100), max_size=12),
    include=st.booleans(),
)
def test_stop_strings_cut_where_they_would_cut_the_whole(
    text: str, stops: list[str], cuts: list[int], include: bool
) -> None:
    options = TextOptions(stops=tuple(stops), include_stop=include)
    pieces, stopped = streamed(split(text.encode(), cuts), options)
    assert "".join(pieces) == cut_at_once(text, stops, include=include)
    assert stopped == any(stop in text for stop in stops)


@given(text=LETTERS, stops=STOPS)
def test_only_what_could_begin_a_stop_string_is_held_back(text: str, stops: list[str]) -> None:
    options = TextOptions(stops=tuple(stops))
    detokenizer = Detokenizer(SplitTokens([c.encode() for c in text]), options)
    shown = ""
    for token_id, _ in enumerate(text):
        shown += detokenizer.feed(token_id)
        if detokenizer.stopped:
            return
        held = text[len(shown) : token_id + 1]
        assert not held or any(stop.startswith(held) for stop in stops)
