"""Text out of tokens: special tokens, unfinished characters, stop strings and min_tokens."""

import pytest
from baton.router.detokenize import Detokenizer, TextOptions
from support.byte_tokenizer import BOS, ByteTokenizer


def texts(token_ids: list[int], **options: object) -> list[str]:
    detokenizer = Detokenizer(ByteTokenizer(), TextOptions(**options))  # type: ignore[arg-type]
    return [*(detokenizer.feed(token_id) for token_id in token_ids), detokenizer.finish()]


def test_an_unfinished_character_waits_and_becomes_a_replacement_only_at_the_end() -> None:
    assert texts([0xC3, 0xA9]) == ["", "é", ""]
    assert texts([0x61, 0xE2, 0x82]) == ["a", "", "", "\N{REPLACEMENT CHARACTER}"]


def test_special_tokens_are_shown_only_on_request() -> None:
    assert texts([BOS, 0x61]) == ["", "a", ""]
    assert texts([BOS, 0x61], skip_special=False) == ["<s>", "a", ""]


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        pytest.param("one two", ("two",), "one ", id="at-the-end"),
        pytest.param("aab", ("ab",), "a", id="after-a-false-start"),
        pytest.param("abcd", ("abcd", "c"), "ab", id="the-first-to-end-wins"),
        pytest.param("xabc", ("bc", "abc"), "x", id="the-longest-of-one-end-wins"),
        pytest.param("ab", ("abc",), "ab", id="a-beginning-is-not-a-match"),
    ],
)
def test_stop_strings(text: str, stops: tuple[str, ...], expected: str) -> None:
    detokenizer = Detokenizer(ByteTokenizer(), TextOptions(stops=stops))
    shown = ""
    for byte in text.encode():
        shown += detokenizer.feed(byte)
        if detokenizer.stopped:
            break
    assert shown + detokenizer.finish() == expected


def test_the_text_of_the_first_min_tokens_is_not_searched() -> None:
    assert "".join(texts(list(b"stop"), stops=("to",), min_tokens=3)) == "stop"
    detokenizer = Detokenizer(ByteTokenizer(), TextOptions(stops=("s",), min_tokens=2))
    assert [detokenizer.feed(byte) for byte in b"ss"] == ["s", "s"]
    assert detokenizer.feed(ord("s")) == ""
    assert detokenizer.stopped
