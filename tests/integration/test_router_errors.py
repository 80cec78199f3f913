"""Every kind of error over HTTP: always `{"error": {message, type, param, code}}`, and bounded."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from baton.rpc.v1 import decode_pb2, worker_pb2
from support.fake_decode import STARTING, FakeDecode
from support.router_process import RunningRouter, running_router

CHAT = "/v1/chat/completions"
USER: Any = [{"role": "user", "content": "hi"}]
ERROR_BYTES_MAX = 2_000
STRANGE_SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "strin"}}}


@pytest.fixture
async def worker() -> AsyncIterator[FakeDecode]:
    async with FakeDecode() as worker:
        yield worker


@pytest.fixture
async def router(worker: FakeDecode) -> AsyncIterator[RunningRouter]:
    async with running_router([worker], body_bytes_max=50_000) as router:
        yield router


def told(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    """The error object, after checking what all errors have in common."""
    assert answer.status_code == status, answer.text
    assert len(answer.content) < ERROR_BYTES_MAX
    assert answer.headers["x-request-id"]
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert isinstance(error, dict)
    return error


@pytest.mark.parametrize(
    ("body", "param"),
    [
        pytest.param(b"", None, id="empty"),
        pytest.param(b"{", None, id="cut"),
        pytest.param(b'{"model": "\xff"}', None, id="not-utf8"),
        pytest.param(b'{"model": "\\ud800"}', None, id="lone-surrogate"),
        pytest.param(b'{"model":' + b"[" * 20_000, "model", id="deep"),
        pytest.param(b'{"model":"bytes","x":' + b"[" * 20_000, None, id="deep-and-unknown"),
        pytest.param(b"[]", None, id="no-object"),
        pytest.param(b"{}", "messages", id="empty-object"),
        pytest.param(b'{"model": "bytes"}', "messages", id="no-messages"),
        pytest.param(b'{"model": 3, "messages": []}', "model", id="model-no-text"),
        pytest.param(b'{"model": "bytes", "messages": "hi"}', "messages", id="messages-no-list"),
        pytest.param(b'{"model": "bytes", "messages": []}', "messages", id="messages-empty"),
        pytest.param(
            b'{"model": "bytes", "messages": [{"role": "user", "content": [{"type": 1}]}]}',
            "messages[0].content[0].type",
            id="part-type-no-text",
        ),
    ],
)
async def test_a_body_that_is_no_request_is_a_400(
    router: RunningRouter, body: bytes, param: str | None
) -> None:
    headers = {"content-type": "application/json"}
    answer = await router.http.post(CHAT, content=body, headers=headers)
    error = told(answer, 400, "invalid_request")
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"temperature": 2.1}, "temperature", id="temperature"),
        pytest.param({"temperature": "hot"}, "temperature", id="temperature-text"),
        pytest.param({"max_tokens": 0}, "max_tokens", id="max-tokens"),
        pytest.param({"n": 10**6}, "n", id="n"),
        pytest.param({"n": 2, "best_of": 3}, "best_of", id="best-of"),
        pytest.param({"stop": ["x"] * 10_000}, "stop", id="many-stops"),
        pytest.param({"top_logprobs": 2}, "top_logprobs", id="top-logprobs-alone"),
        pytest.param({"logprobs": True, "top_logprobs": 21}, "top_logprobs", id="top-logprobs"),
        pytest.param({"logit_bias": {"foo": 1}}, "logit_bias", id="logit-bias-key"),
        pytest.param({"seed": 10**30}, "seed", id="seed-beyond-64-bits"),
        pytest.param({"priority": 1 << 31}, "priority", id="priority-beyond-32-bits"),
        pytest.param({"stream_options": {"include_usage": True}}, "stream_options", id="stream"),
        pytest.param({"tools": [{"type": "function"}]}, "tools[0].function", id="tools"),
        pytest.param({"response_format": {"type": "xml"}}, "response_format.type", id="format"),
        pytest.param({"response_format": STRANGE_SCHEMA}, "response_format", id="schema"),
        pytest.param({"guided_regex": "a+"}, "guided_regex", id="guided"),
        pytest.param({"structured_outputs": {"regex": "("}}, "structured_outputs", id="regex"),
        pytest.param(
            {"response_format": {"type": "json_object"}, "min_tokens": 5}, "min_tokens", id="form"
        ),
        pytest.param(
            {"messages": [{"role": "wizard", "content": "hi"}]}, "messages[0].role", id="role"
        ),
        pytest.param({"messages": [{"role": "user"}]}, "messages[0].content", id="no-content"),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0]",
            id="image",
        ),
    ],
)
async def test_a_field_that_is_wrong_is_named(
    router: RunningRouter, fields: dict[str, object], param: str
) -> None:
    answer = await router.http.post(CHAT, json={"model": "bytes", "messages": USER, **fields})
    assert told(answer, 400, "invalid_request")["param"] == param


async def test_neutral_values_of_unsupported_fields_are_accepted(router: RunningRouter) -> None:
    answer = await router.openai.chat.completions.create(
        model="bytes",
        messages=USER,
        tools=[],
        tool_choice="none",
        response_format={"type": "text"},
        max_tokens=1,
    )
    assert answer.choices[0].message.content == "P"


async def test_an_unknown_model_is_a_404(router: RunningRouter) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await router.openai.chat.completions.create(model="m" * 5_000, messages=USER)
    told(refused.value.response, 404, "model_not_found")


async def test_too_long_a_prompt_names_the_limit_and_the_counts(
    router: RunningRouter, worker: FakeDecode
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await router.openai.completions.create(model="bytes", prompt="x" * 119, max_tokens=50)
    message = told(refused.value.response, 400, "context_length_exceeded")["message"]
    assert "maximum context length is 120 tokens" in str(message)
    assert "121 tokens (120 in the prompt, 1 in the completion)" in str(message)
    with pytest.raises(openai.BadRequestError) as refused:
        await router.openai.completions.create(model="bytes", prompt="x" * 40_000)
    assert refused.value.code == "context_length_exceeded"
    assert worker.submits == []


async def test_http_itself_is_answered_in_the_same_shape(router: RunningRouter) -> None:
    told(await router.http.get("/v1/nothing"), 404, "not_found")
    told(await router.http.get(CHAT), 405, "method_not_allowed")
    form = await router.http.post(CHAT, data={"a": "b"})
    told(form, 415, "unsupported_media_type")
    announced = await router.http.post(CHAT, json={"x": "y" * 60_000})
    told(announced, 413, "request_too_large")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * 10_000

    unannounced = await router.http.post(
        CHAT, content=chunks(), headers={"content-type": "application/json"}
    )
    told(unannounced, 413, "request_too_large")


async def test_without_a_worker_requests_wait_a_little_then_get_503() -> None:
    async with FakeDecode() as worker:
        await worker.become(STARTING)
        async with running_router([worker], wait=False) as router:
            answer = await router.http.post(CHAT, json={"model": "bytes", "messages": USER})
            told(answer, 503, "unavailable")
            assert answer.headers["retry-after"] == "1"
            assert (await router.http.get("/ready")).status_code == 503
            assert (await router.http.get("/health")).status_code == 200


async def test_a_full_router_answers_429(worker: FakeDecode) -> None:
    worker.script.silent = True
    async with running_router([worker], requests_max=1) as router:
        body = {"model": "bytes", "messages": USER, "stream": True}
        async with httpx.AsyncClient(base_url=router.url) as other:
            request = other.build_request("POST", CHAT, json=body)
            first = asyncio.create_task(other.send(request, stream=True))
            await worker.until(lambda w: len(w.submits) == 1)
            with pytest.raises(openai.RateLimitError) as refused:
                await router.openai.completions.create(model="bytes", prompt="x")
            told(refused.value.response, 429, "overloaded")
            assert refused.value.response.headers["retry-after"] == "1"
            first.cancel()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("header", ["x-slo-ttft-ms", "x-llm-d-slo-ttft-ms"])
async def test_a_first_token_that_would_come_too_late_is_refused_with_when_to_ask_again(
    worker: FakeDecode, header: str, stream: bool
) -> None:
    worker.cost_model = worker_pb2.CostModel(prefill_token_s=0.5)
    body = {"model": "bytes", "messages": USER, "max_tokens": 1, "stream": stream}
    async with running_router([worker]) as router:
        refused = await router.http.post(CHAT, json=body, headers={header: "1500"})
        told(refused, 429, "slo_unattainable")
        assert 2 <= int(refused.headers["retry-after"]) <= 60
        assert worker.submits == []
        patient = await router.http.post(CHAT, json=body, headers={header: "600000"})
        assert patient.status_code == 200
        metrics = (await router.operations.get("/metrics")).text
    assert 'baton_router_refusals_total{model_name="bytes",reason="slo"} 1.0' in metrics
    assert 'finished_reason="error",model_name="bytes"} 0.0' in metrics


@pytest.mark.parametrize("value", ["", "soon", "-1", "0", "1.5", "1" * 10])
async def test_a_header_that_is_no_number_of_milliseconds_is_refused(
    router: RunningRouter, value: str
) -> None:
    body = {"model": "bytes", "messages": USER}
    answer = await router.http.post(CHAT, json=body, headers={"x-slo-ttft-ms": value})
    assert told(answer, 400, "invalid_request")["param"] == "x-slo-ttft-ms"


async def test_the_priority_of_a_request_reaches_its_worker(
    worker: FakeDecode, router: RunningRouter
) -> None:
    await router.openai.completions.create(model="bytes", prompt="x", extra_body={"priority": -7})
    assert worker.submits[-1].priority == -7


async def test_a_draining_router_serves_on_and_sends_its_clients_elsewhere(
    router: RunningRouter,
) -> None:
    body = {"model": "bytes", "messages": USER}
    assert "connection" not in (await router.http.post(CHAT, json=body)).headers
    router.traffic.drain()
    for answer in (
        await router.http.post(CHAT, json=body),
        await router.http.post(CHAT, json=body | {"stream": True}),
    ):
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert (await router.http.get("/health")).status_code == 503
    assert (await router.http.get("/ready")).status_code == 503


async def test_a_router_that_drained_long_enough_refuses(router: RunningRouter) -> None:
    router.traffic.refuse()
    answer = await router.http.post(CHAT, json={"model": "bytes", "messages": USER})
    told(answer, 503, "draining")
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-should-retry"] == "true"


async def test_a_failed_step_is_a_500_that_is_not_tried_again(
    router: RunningRouter, worker: FakeDecode
) -> None:
    worker.script.fail_after = 0
    answer = await router.http.post(CHAT, json={"model": "bytes", "messages": USER})
    assert told(answer, 500, "engine_failure")["type"] == "server_error"
    assert answer.headers["x-should-retry"] == "false"
    assert len(worker.submits) == 1


async def test_a_workers_refusal_keeps_its_code(router: RunningRouter, worker: FakeDecode) -> None:
    worker.script.refuse = decode_pb2.RequestError(
        code="overloaded", message="the queue is full", retryable=True
    )
    answer = await router.http.post(CHAT, json={"model": "bytes", "messages": USER})
    assert told(answer, 429, "overloaded")["message"] == "the queue is full"


async def test_an_error_after_the_first_byte_is_an_event(
    router: RunningRouter, worker: FakeDecode
) -> None:
    worker.script.fail_after = 3
    body = {"model": "bytes", "messages": USER, "stream": True}
    answer = await router.http.post(CHAT, json=body)
    assert answer.status_code == 200
    *_, error, done, end = answer.text.split("\n\n")
    assert error == (
        'data: {"error":{"message":"a step failed","type":"server_error","param":null,'
        '"code":"engine_failure"}}'
    )
    assert (done, end) == ("data: [DONE]", "")
    stream = await router.openai.chat.completions.create(
        model="bytes",
        messages=USER,
        stream=True,
    )
    with pytest.raises(openai.APIError, match="a step failed"):
        [chunk async for chunk in stream]


async def test_an_error_before_the_first_token_of_a_stream_has_its_status(
    router: RunningRouter, worker: FakeDecode
) -> None:
    worker.script.fail_after = 0
    with pytest.raises(openai.InternalServerError) as failed:
        await router.openai.chat.completions.create(
            model="bytes",
            messages=USER,
            stream=True,
        )
    assert failed.value.code == "engine_failure"


async def test_a_request_past_its_deadline_is_a_504(worker: FakeDecode) -> None:
    worker.script.silent = True
    async with running_router([worker], request_timeout_s=0.1) as router:
        with pytest.raises(openai.APIStatusError) as late:
            await router.openai.completions.create(model="bytes", prompt="x")
        told(late.value.response, 504, "deadline_exceeded")
        await worker.until(lambda w: len(w.cancels) == 1)
