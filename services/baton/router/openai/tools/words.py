"""Tools in plain words: for chat templates that know no tools, or tell of them in a syntax that we
do not read.

Pure. Knows messages; knows no templates.
"""

import json
from collections.abc import Sequence

from baton.router.openai.conversation import TemplateMessage
from baton.router.openai.tools.syntax import IN_WORDS
from baton.router.openai.tools.use import Function

_EXAMPLE = IN_WORDS.call("NAME", {"ARGUMENT": "VALUE"})


def in_words(
    messages: Sequence[TemplateMessage], functions: Sequence[Function]
) -> list[TemplateMessage]:
    """The same conversation between system, user and assistant, each message a text."""
    spoken: list[TemplateMessage] = []
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            result = f"<tool_response>\n{message['content']}\n</tool_response>"
            if index and messages[index - 1]["role"] == "tool":
                spoken[-1]["content"] += "\n" + result
            else:
                spoken.append({"role": "user", "content": result})
        else:
            told = {key: value for key, value in message.items() if key != "tool_calls"}
            spoken.append({**told, "content": _with_calls(message)})
    return _introduced(spoken, functions) if functions else spoken


def _with_calls(message: TemplateMessage) -> str:
    """As the model itself wrote it."""
    called = [call["function"] for call in message.get("tool_calls", ())]
    calls = [IN_WORDS.call(call["name"], call["arguments"]) for call in called]
    content = [message["content"]] if message["content"] or not calls else []
    return "\n".join([*content, *calls])


def _introduced(
    messages: Sequence[TemplateMessage], functions: Sequence[Function]
) -> list[TemplateMessage]:
    """With what the model must know of the functions, in the first system message."""
    lines = "\n".join(
        json.dumps(function.definition["function"], ensure_ascii=False) for function in functions
    )
    words = (
        "You can call these functions, described by one JSON object a line:\n"
        f"<tools>\n{lines}\n</tools>\n\n"
        "To call a function, answer with a JSON object of its name and its arguments, between "
        f"tags and in exactly this form:\n{_EXAMPLE}\n\n"
        "Results then come between <tool_response> and </tool_response>."
    )
    first, *rest = messages
    if first["role"] != "system":
        return [{"role": "system", "content": words}, *messages]
    content = f"{first['content']}\n\n{words}" if first["content"] else words
    return [{"role": "system", "content": content}, *rest]
