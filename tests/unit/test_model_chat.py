"""Chat templates render in a sandbox; refusals are the caller's, broken templates the model's."""

from datetime import datetime

import pytest
from baton.common.errors import InvalidRequest, ModelFileError
from baton.model.chat import PROMPT_CHARS_MAX, TEMPLATE_CHARS_MAX, ChatTemplate

HELLO = [{"role": "user", "content": "Hello"}]
NOON = datetime(2026, 11, 22, 12, 0)


def template(text: str | None) -> ChatTemplate:
    return ChatTemplate(text, bos_token="<s>", eos_token="</s>", now=lambda: NOON)


def test_messages_become_a_prompt() -> None:
    chat = template(
        "{{ bos_token }}\n"
        "{% for message in messages %}\n"
        "    {% if message['role'] == 'tool' %}{% continue %}{% endif %}\n"
        "{{ message.role }}: {{ message['content'] | trim }}{{ eos_token }}\n"
        "{% endfor %}\n"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    messages = [{"role": "tool", "content": "skipped"}, {"role": "user", "content": " Hi <b> "}]
    assert chat.render(messages) == "<s>\nuser: Hi <b></s>\nassistant:"
    assert chat.render(messages, add_generation_prompt=False) == "<s>\nuser: Hi <b></s>\n"


def test_the_date_is_the_clocks() -> None:
    assert template("{{ strftime_now('%d %B %Y') }}").render(HELLO) == "22 November 2026"


def test_json_is_written_plainly() -> None:
    chat = template("{{ tools | tojson }}|{{ tools | tojson(indent=1) }}")
    assert chat.render(HELLO, tools=[{"a": "<é>"}]) == '[{"a": "<é>"}]|[\n {\n  "a": "<é>"\n }\n]'


def test_a_generation_block_is_its_content_in_its_own_scope() -> None:
    chat = template("{% set x = 1 %}{% generation %}{% set x = 2 %}a{% endgeneration %}{{ x }}")
    assert chat.render(HELLO) == "a1"


def test_variables_of_the_request_reach_the_template_but_replace_nothing_of_ours() -> None:
    chat = template("{{ enable_thinking }} {{ bos_token }} {{ messages | length }}")
    variables = {"enable_thinking": False, "bos_token": "X", "messages": []}
    assert chat.render(HELLO, variables=variables) == "False <s> 1"


def test_a_model_without_template_points_to_completions() -> None:
    chat = template(None)
    assert not chat.available
    with pytest.raises(InvalidRequest, match=r"no chat template.*/v1/completions") as caught:
        chat.render(HELLO)
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ raise_exception('roles must alternate') }}", "refuses .*: roles must alternate"),
        ("{{ messages[0]['content'] + 1 }}", "cannot take these messages"),
        ("{{ messages[5]['content'].x }}", "cannot take these messages"),
        ("{% include 'other' %}", "cannot take these messages"),
        ("{{ raise_exception('x' * 9999) }}", "xxx"),
    ],
)
def test_a_template_that_refuses_messages_is_the_callers_error(text: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        template(text).render(HELLO)
    assert caught.value.param == "messages"
    assert len(caught.value.message) < 700


@pytest.mark.parametrize(
    "text",
    [
        "{% if %}",
        "{{ x | no_such_filter }}",
        "{% generation %}",
        "{{",
        "a" * (TEMPLATE_CHARS_MAX + 1),
    ],
    ids=["if", "filter", "open-block", "open", "long"],
)
def test_a_broken_template_is_the_models_error(text: str) -> None:
    with pytest.raises(ModelFileError, match="the chat template is"):
        template(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ range(10 ** 9) | list }}",
    ],
)
def test_what_the_sandbox_forbids_never_happens(text: str) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    with pytest.raises((ModelFileError, InvalidRequest)):
        template(text).render(messages)
    assert messages == HELLO


def test_the_prompt_is_bounded() -> None:
    chat = template("{% for i in range(1000) %}{{ messages[0].content }}{% endfor %}")
    with pytest.raises(InvalidRequest, match="longer than"):
        chat.render([{"role": "user", "content": "x" * (PROMPT_CHARS_MAX // 500)}])
