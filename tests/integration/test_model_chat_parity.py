"""Chat templates of many dialects render to the text transformers renders."""

from typing import Any

import pytest
from baton.model.chat import ChatTemplate
from transformers.utils.chat_template_utils import render_jinja_template

CHATML = (
    "{%- if tools %}\n    {{- '<|im_start|>system\\n# Tools' }}\n"
    "    {%- for tool in tools %}\n        {{- '\\n' }}\n        {{- tool | tojson }}\n"
    "    {%- endfor %}\n    {{- '<|im_end|>\\n' }}\n{%- endif %}\n"
    "{%- set ns = namespace(last=messages | length - 1) %}\n"
    "{%- for message in messages[::-1] %}\n"
    "    {%- if ns.last and message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}\n"
    "{%- endfor %}\n"
    "{%- for message in messages %}\n"
    "    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n"
    "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
    "        {{- '<think>\\n\\n</think>\\n\\n' }}\n    {%- endif %}\n{%- endif %}\n{{ ns.last }}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set rest = messages[1:] %}{% else %}{% set system = false %}{% set rest = messages %}"
    "{% endif %}{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system %}{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>"
    "\\n\\n' + m['content'] %}{% else %}{% set content = m['content'] %}{% endif %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
BLOCKS = (
    "{% for message in messages %}\n"
    "    {% if message.role == 'assistant' %}\n"
    "        {% generation %}\n{{ message.content }}\n        {% endgeneration %}\n"
    "    {% elif loop.first %}\n        {% continue %}\n    {% else %}\n"
    "  {{ loop.index }}/{{ loop.length }} {{ message | tojson(indent=2) }}\n    {% endif %}\n"
    "{% endfor %}\n{# a comment #}\n{{ documents is none }} {{ undefined_name }}|\n"
)
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one": [{"role": "user", "content": " What is <b>?\n"}],
    "system": [{"role": "system", "content": "Ünï"}, {"role": "user", "content": "'q' \"d\" & 🎉"}],
    "turns": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ],
}
TOOLS = [{"type": "function", "function": {"name": "f", "description": "<é>", "parameters": {}}}]


@pytest.mark.parametrize("tools", [None, TOOLS], ids=["plain", "tools"])
@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("text", [CHATML, LLAMA2, BLOCKS], ids=["chatml", "llama2", "blocks"])
def test_a_prompt_is_the_one_of_transformers(
    text: str, name: str, tools: list[dict[str, Any]] | None
) -> None:
    messages = CONVERSATIONS[name]
    ours = ChatTemplate(text, bos_token="<s>", eos_token="</s>").render(
        messages, tools=tools, variables={"enable_thinking": False}
    )
    render: Any = render_jinja_template  # its annotations are not those of its results
    rendered, _ = render(
        [messages],
        tools=tools,
        chat_template=text,
        add_generation_prompt=True,
        bos_token="<s>",
        eos_token="</s>",
        enable_thinking=False,
    )
    assert ours == rendered[0]
