"""Thoughts told from an answer: whether there are any, where they end, how many tokens they are."""

from dataclasses import replace

import pytest
from baton.engine.params import TokenSample
from baton.model.chat import ChatTemplate
from baton.router.openai.thoughts import Split, Thinking, ThoughtReader, thinking_of
from support.byte_tokenizer import byte_model
from support.tool_models import THOUGHTFUL, TOOLLESS

CLOSING_ID = 7
MAY = Thinking(begun=False, told=True, closing_id=CLOSING_ID)
BEGUN = replace(MAY, begun=True)


def read(text: str, thinking: Thinking = MAY) -> tuple[str, str]:
    reader = ThoughtReader(thinking)
    first, last = reader.feed(text, ()), reader.finish()
    return first.thought + last.thought, first.text + last.text


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        pytest.param("<think>\nHm.\n</think>\n\nYes.", "Hm.", "Yes.", id="both"),
        pytest.param("<think>\n\n</think>\n\nYes.", "", "Yes.", id="nothing-thought"),
        pytest.param(" \n<think>Hm.</think>Yes.", "Hm.", "Yes.", id="behind-white-space"),
        pytest.param("Yes.", "", "Yes.", id="no-thoughts"),
        pytest.param("\n Yes. ", "", "\n Yes. ", id="white-space-of-an-answer"),
        pytest.param("Yes: <think>Hm.</think>", "", "Yes: <think>Hm.</think>", id="marks-later"),
        pytest.param("<thin", "", "<thin", id="the-beginning-of-a-mark"),
        pytest.param("<think>Hm.\n</thi", "Hm.\n</thi", "", id="cut-in-its-closing"),
        pytest.param("<think>Hm.", "Hm.", "", id="cut"),
        pytest.param("<think>Hm.</think>\n\n", "Hm.", "", id="nothing-said"),
        pytest.param("<think>a</think>b</think>c", "a", "b</think>c", id="closed-once"),
        pytest.param("", "", "", id="empty"),
    ],
)
def test_thoughts_stand_between_the_marks(text: str, thought: str, answer: str) -> None:
    assert read(text) == (thought, answer)


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        pytest.param("\nHm. <think>\n</think>\n\nYes.", "Hm. <think>", "Yes.", id="both"),
        pytest.param("Hm.\n", "Hm.", "", id="cut"),
        pytest.param("\n\n</think>\nYes.", "", "Yes.", id="nothing-thought"),
    ],
)
def test_the_prompt_may_have_opened_them(text: str, thought: str, answer: str) -> None:
    assert read(text, BEGUN) == (thought, answer)


def test_who_does_not_want_thoughts_is_told_none_of_them() -> None:
    assert read("<think>Hm.</think>Yes.", replace(MAY, told=False)) == ("", "Yes.")
    assert read("<think>Hm.", replace(MAY, told=False)) == ("", "")


def test_only_what_may_be_a_mark_or_stand_before_one_is_held_back() -> None:
    reader = ThoughtReader(BEGUN)
    assert reader.feed("a <", ()).thought == "a"
    assert reader.feed("b", ()).thought == " <b"
    assert reader.feed(" \n", ()).thought == ""
    assert reader.feed("c</think>", ()) == Split(" \nc", "", 0)


def test_tokens_count_as_thoughts_up_to_the_closing_mark() -> None:
    reader = ThoughtReader(MAY)
    tokens = [TokenSample(token_id) for token_id in (1, 2, CLOSING_ID, 3, 4)]
    assert reader.feed("<think>", tokens[:1]).thought_tokens == 1
    assert reader.feed("Hm.</think>Yes", tokens[1:4]) == Split("Hm.", "Yes", 2)
    assert reader.feed("!", tokens[4:]).thought_tokens == 0


def test_the_closing_token_counts_even_where_its_text_is_held_back() -> None:
    reader = ThoughtReader(BEGUN)
    assert reader.feed("", [TokenSample(CLOSING_ID)]).thought_tokens == 1
    assert reader.feed("</think>Yes", [TokenSample(1)]) == Split("", "Yes", 0)


def test_no_token_of_an_answer_without_thoughts_counts() -> None:
    reader = ThoughtReader(MAY)
    assert reader.feed("<thi", [TokenSample(1)]).thought_tokens == 0
    assert reader.feed("s", [TokenSample(2)]).thought_tokens == 0


def test_where_no_token_is_the_mark_all_of_its_piece_counts() -> None:
    reader = ThoughtReader(replace(BEGUN, closing_id=None))
    assert reader.feed("Hm.</think>Yes", [TokenSample(1), TokenSample(2)]).thought_tokens == 2
    assert reader.feed("!", [TokenSample(3)]).thought_tokens == 0


@pytest.mark.parametrize(
    ("template", "variables", "begun"),
    [
        pytest.param(THOUGHTFUL, {}, False, id="model-opens"),
        pytest.param(THOUGHTFUL, {"opened": True}, True, id="prompt-opens"),
        pytest.param(THOUGHTFUL, {"enable_thinking": False}, None, id="switched-off"),
        pytest.param(TOOLLESS, {}, None, id="does-not-think"),
    ],
)
def test_the_template_tells_whether_a_model_thinks(
    template: str, variables: dict[str, object], begun: bool | None
) -> None:
    chat = ChatTemplate(template, bos_token="", eos_token="")
    model = replace(byte_model(), chat=chat)
    prompt = chat.render([{"role": "user", "content": "Hi."}], variables=variables)
    thinking = thinking_of(model, prompt, told=True)
    assert thinking == (None if begun is None else Thinking(begun, True, None))
