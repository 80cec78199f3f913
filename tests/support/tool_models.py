"""Chat templates that know tools or thoughts as the published ones do, and one that knows neither;
all ours."""

from dataclasses import replace

from baton.model.chat import ChatTemplate
from baton.router.text import TextModel

from support.byte_tokenizer import byte_model

# The marks by which Qwen's template is told: it shows its model a call in these tags.
QWEN_LIKE = (
    "{% if tools %}[tools{% for tool in tools %} {{ tool | tojson }}{% endfor %}"
    ' as <tool_call>\\n{"name": N, "arguments": A}\\n</tool_call>]\n{% endif %}'
    "{% for message in messages %}"
    "{{ message.role }}: {{ message.content }}"
    "{% for call in message.tool_calls or [] %}"
    "<{{ call.function.name }} {{ call.function.arguments.items() | list }}>"
    "{% endfor %}{{ '\\n' }}"
    "{% endfor %}assistant: "
)
# Llama 3.1's: a call is all that the model says, and an earlier message has no more than one.
LLAMA_LIKE = (
    "{% if tools is not none %}[tools{% for tool in tools %} {{ tool | tojson }}{% endfor %}"
    ' as {"name": function name, "parameters": dictionary}]\n{% endif %}'
    "{% for message in messages %}"
    "{% if 'tool_calls' in message %}"
    "{% if message.tool_calls | length != 1 %}{{ raise_exception('one call') }}{% endif %}"
    "{% set call = message.tool_calls[0].function %}"
    'assistant: {"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}\n'
    "{% else %}{{ message.role }}: {{ message.content }}\n{% endif %}"
    "{% endfor %}assistant: "
)
# The same tags, filled in a way that nothing here reads.
TAGS_OF_OTHERS = "{% if tools %}<tool_call>\\n<function=NAME>{% endif %}assistant: "
TOOLLESS = (
    "{% for message in messages %}"
    "{% if message.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role') }}{% endif %}"
    "{{ message.role }}: {{ message.content }}\n"
    "{% endfor %}assistant: "
)
# Qwen3's: the model opens its thoughts, unless the template closes them; `opened` is how templates
# of models that cannot do otherwise end.
THOUGHTFUL = QWEN_LIKE.replace(
    "{{ message.content }}",
    "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}"
    "{{ message.content }}",
) + (
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% if opened %}<think>\n{% endif %}"
)


def tool_model(template: str) -> TextModel:
    """The byte model with this template and room for what it says."""
    chat = ChatTemplate(template, bos_token="<s>", eos_token="</s>")
    return replace(byte_model(context_length=8_000), chat=chat)
