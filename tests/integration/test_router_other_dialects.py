"""What clients that learned from other servers send: taken where it means the same here, refused by
its name where it would change the answer."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.fake_decode import FakeDecode
from support.router_process import RunningRouter, running_router

CHAT = "/v1/chat/completions"
USER: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def worker() -> AsyncIterator[FakeDecode]:
    async with FakeDecode() as worker:
        yield worker


@pytest.fixture
async def router(worker: FakeDecode) -> AsyncIterator[RunningRouter]:
    async with running_router([worker]) as router:
        yield router


NOT_HONOURED: dict[str, object] = {
    "chat_template": "{{ messages }}",
    "documents": [{"text": "x"}],
    "echo": True,
    "add_special_tokens": True,
    "return_token_ids": True,
    "thinking_token_budget": 9,
    "moderation": {},
    "regex": "a+",
    "json_schema": "{}",
    "grammar": "root ::= x",
    "n_predict": 5,
    "max_new_tokens": 5,
    "lora_path": "x",
}


@pytest.mark.parametrize("name", NOT_HONOURED)
async def test_what_would_change_the_answer_and_is_not_honoured_is_refused(
    router: RunningRouter, name: str
) -> None:
    body = {"model": "bytes", "messages": USER, name: NOT_HONOURED[name]}
    answer = await router.http.post(CHAT, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == name


async def test_a_request_that_names_no_model_is_the_only_ones(router: RunningRouter) -> None:
    for body in ({"messages": USER}, {"messages": USER, "model": None}):
        answer = await router.http.post(CHAT, json=body)
        assert answer.json()["model"] == "bytes", answer.text


async def test_numbers_may_be_what_floats_and_forms_make_of_them(
    router: RunningRouter, worker: FakeDecode
) -> None:
    body = {"messages": USER, "max_tokens": 4.0, "seed": "7", "temperature": "0.5", "stream": 0}
    assert (await router.http.post(CHAT, json=body)).status_code == 200
    sent = worker.submits[-1].sampling
    assert (sent.max_tokens, sent.seed, sent.temperature) == (4, 7, 0.5)


async def test_integers_of_a_schema_may_be_of_any_size(router: RunningRouter) -> None:
    for value in (1 << 64, 10**30):
        schema = {"type": "object", "properties": {"a": {"enum": [value], "default": value}}}
        asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        answer = await router.http.post(CHAT, json={"messages": USER, "response_format": asked})
        assert answer.status_code in (200, 400), answer.text
