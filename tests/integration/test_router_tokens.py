"""`/tokenize` and `/detokenize`: what a text costs, told before it is asked."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.byte_tokenizer import BOS, EOS
from support.crowd import bearer
from support.fake_decode import FakeDecode
from support.router_process import RunningRouter, running_router
from support.tenant_files import KEYS, entry, write_register
from support.tool_models import QWEN_LIKE, tool_model
from support.tool_requests import TOOLS

USER: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def worker() -> AsyncIterator[FakeDecode]:
    async with FakeDecode(context_length_max=8_000) as worker:
        yield worker


@pytest.fixture
async def router(worker: FakeDecode) -> AsyncIterator[RunningRouter]:
    async with running_router([worker], model=tool_model(QWEN_LIKE)) as router:
        yield router


async def asked(router: RunningRouter, path: str, **body: object) -> httpx.Response:
    return await router.http.post(path, json=body)


async def test_a_text_is_counted_as_a_completion_would_have_it(
    router: RunningRouter, worker: FakeDecode
) -> None:
    told = (await asked(router, "/tokenize", model="bytes", prompt="aé")).json()
    assert told == {
        "count": 4,
        "max_model_len": 8_000,
        "tokens": [BOS, *"aé".encode()],
        "token_strs": None,
    }
    await router.openai.completions.create(model="bytes", prompt="aé")
    assert list(worker.submits[-1].prompt_token_ids) == told["tokens"]


async def test_without_special_tokens_and_with_the_text_of_each(router: RunningRouter) -> None:
    fields = {"add_special_tokens": False, "return_token_strs": True}
    told = (await asked(router, "/tokenize", prompt="ab", **fields)).json()
    assert (told["tokens"], told["token_strs"]) == ([97, 98], ["a", "b"])


async def test_messages_are_counted_as_a_chat_would_have_them(
    router: RunningRouter, worker: FakeDecode
) -> None:
    fields: Any = {"messages": USER, "tools": TOOLS}
    told = (await asked(router, "/tokenize", **fields)).json()
    await router.openai.chat.completions.create(model="bytes", **fields)
    assert told["tokens"] == list(worker.submits[-1].prompt_token_ids)
    assert told["count"] == len(told["tokens"])


async def test_tokens_become_text_and_special_ones_are_written_out(router: RunningRouter) -> None:
    told = await asked(router, "/detokenize", model="bytes", tokens=[97, 0xC3, 0xA9, EOS])
    assert told.json() == {"prompt": "aé</s>"}
    assert (await asked(router, "/detokenize", tokens=[])).json() == {"prompt": ""}


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        pytest.param("/tokenize", {}, 400, "prompt", id="nothing"),
        pytest.param("/tokenize", {"prompt": "x", "messages": USER}, 400, "prompt", id="both"),
        pytest.param("/tokenize", {"prompt": 3}, 400, "prompt", id="no-text"),
        pytest.param("/tokenize", {"prompt": "x", "model": "y"}, 404, "model", id="other-model"),
        pytest.param("/tokenize", {"messages": []}, 400, "messages", id="no-messages"),
        pytest.param(
            "/tokenize",
            {"messages": USER, "add_special_tokens": True},
            400,
            "add_special_tokens",
            id="special-tokens-twice",
        ),
        pytest.param("/tokenize", {"prompt": "x" * 100_000}, 400, None, id="too-long"),
        pytest.param("/detokenize", {}, 400, "tokens", id="no-tokens"),
        pytest.param("/detokenize", {"tokens": [-1]}, 400, "tokens", id="below-the-vocabulary"),
        pytest.param("/detokenize", {"tokens": [259]}, 400, "tokens", id="above-it"),
    ],
)
async def test_what_cannot_be_told_is_refused(
    router: RunningRouter, path: str, body: dict[str, Any], status: int, param: str | None
) -> None:
    answer = await asked(router, path, **body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize"])
async def test_a_key_is_asked_for_here_too(worker: FakeDecode, path: str, tmp_path: Path) -> None:
    keys = write_register(tmp_path / "keys.json", entry("red"))
    body = {"prompt": "x", "tokens": [97]}
    async with running_router([worker], api_keys_file=keys) as router:
        assert (await router.http.post(path, json=body)).status_code == 401
        headers = bearer(KEYS["red"])
        assert (await router.http.post(path, json=body, headers=headers)).status_code == 200
