"""Where the prompt of a chat ends: where the assistant speaks, at the last message, or within it.
As transformers' own rendering has it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from baton.model.chat import ChatTemplate
from support.byte_tokenizer import byte_model
from support.fake_decode import FakeDecode, says
from support.router_process import RunningRouter, running_router
from support.tiny_tokenizer import CHAT_TEMPLATE
from transformers.utils.chat_template_utils import render_jinja_template

QUESTION = {"role": "user", "content": "Paris? Say:"}
ENDINGS: dict[str, dict[str, Any]] = {
    "assistant-speaks": {},
    "nowhere": {"add_generation_prompt": False},
    "goes-on": {"add_generation_prompt": False, "continue_final_message": True},
}


@pytest.fixture
async def worker() -> AsyncIterator[FakeDecode]:
    async with FakeDecode(context_length_max=8_000) as worker:
        yield worker


@pytest.fixture
async def router(worker: FakeDecode) -> AsyncIterator[RunningRouter]:
    chat = ChatTemplate(CHAT_TEMPLATE, bos_token="", eos_token="")
    model = replace(byte_model(context_length=8_000), chat=chat)
    async with running_router([worker], model=model) as router:
        yield router


@pytest.mark.parametrize("said", ["The capital is", "Say:", " It is \n"])
@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
async def test_a_prompt_ends_where_transformers_has_it_end(
    router: RunningRouter, worker: FakeDecode, ending: dict[str, Any], said: str
) -> None:
    messages: Any = [QUESTION, {"role": "assistant", "content": said}]
    render: Any = render_jinja_template  # its annotations are not those of its results
    asked = {"add_generation_prompt": True, **ending}
    rendered, _ = render([messages], chat_template=CHAT_TEMPLATE, **asked)
    worker.script.reply = says(" Paris.")
    answer = await router.openai.chat.completions.create(
        model="bytes", messages=messages, extra_body=ending
    )
    assert bytes(worker.submits[-1].prompt_token_ids).decode() == rendered[0]
    assert answer.choices[0].message.content == " Paris."  # what goes on, without what it goes on


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        pytest.param([QUESTION], {}, id="the-users"),
        pytest.param([QUESTION, {"role": "assistant", "content": " "}], {}, id="empty"),
        pytest.param(
            [QUESTION, {"role": "assistant", "content": "x"}],
            {"add_generation_prompt": True},
            id="both",
        ),
    ],
)
async def test_what_cannot_be_continued_is_refused(
    router: RunningRouter, messages: list[Any], fields: dict[str, Any]
) -> None:
    body = {"model": "bytes", "messages": messages, "continue_final_message": True, **fields}
    answer = await router.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == "continue_final_message"


async def test_only_chat_has_endings(router: RunningRouter) -> None:
    for path, asked in (("completions", {"prompt": "x"}), ("responses", {"input": "x"})):
        body = {"model": "bytes", "continue_final_message": True, **asked}
        answer = await router.http.post(f"/v1/{path}", json=body)
        assert answer.json()["error"]["param"] == "continue_final_message", answer.text
