"""Answers of a given form as a user gets them: SmolLM2, real processes, the unmodified client."""

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from openai import OpenAI
from pydantic import BaseModel
from support.stack import Stack, serve

MODEL = "smollm2-135m"
ANNA: Any = [{"role": "user", "content": "Anna is 31 and lives in Paris. Write it as JSON."}]
WEATHER: Any = [{"role": "user", "content": "What is the weather like in Paris today?"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a day in a city",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "unit": {"enum": ["celsius", "fahrenheit"]},
                },
                "required": ["city", "unit"],
            },
        },
    }
]
LONG_LIST = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"day": {"type": "integer"}, "name": {"type": "string", "maxLength": 12}},
        "required": ["day", "name"],
        "additionalProperties": False,
    },
    "minItems": 20,
    "maxItems": 20,
}

pytestmark = [pytest.mark.smollm2, pytest.mark.timeout(600)]


class Person(BaseModel):
    name: str
    age: int
    city: str


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with serve(tmp_path_factory.mktemp("structured") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def test_an_answer_is_parsed_into_the_clients_own_class(client: OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=ANNA, temperature=0, max_tokens=100, response_format=Person
    )
    assert answer.choices[0].message.parsed == Person(name="Anna", age=31, city="Paris")
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_drawn_has_the_form(client: OpenAI, seed: int) -> None:
    """At a temperature at which the model alone writes nothing that anybody could read."""
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ANNA,
        temperature=1.9,
        seed=seed,
        max_tokens=40,
        extra_body={"structured_outputs": {"regex": r"[A-Z][a-z]{2,8}, \d{2} years"}},
    )
    content = answer.choices[0].message.content or ""
    assert answer.choices[0].finish_reason == "stop"
    name, _, age = content.partition(", ")
    assert name.isalpha()
    assert age[2:] == " years"
    assert age[:2].isdigit()


def called(client: OpenAI, **fields: Any) -> dict[str, Any]:
    """The one call of a streamed answer."""
    stream = client.chat.completions.create(
        model=MODEL,
        messages=WEATHER,
        tools=TOOLS,
        temperature=0,
        max_tokens=100,
        stream=True,
        **fields,
    )
    call = {"id": "", "name": "", "arguments": ""}
    reasons = []
    for chunk in stream:
        (choice,) = chunk.choices
        reasons.append(choice.finish_reason)
        for part in choice.delta.tool_calls or ():
            assert part.index == 0
            assert part.function is not None
            call["id"] += part.id or ""
            call["name"] += part.function.name or ""
            call["arguments"] += part.function.arguments or ""
    assert reasons[-1] == "tool_calls"
    return call


def test_a_call_is_made_and_its_result_is_answered(client: OpenAI) -> None:
    call = called(client, tool_choice="required")
    assert call["name"] == "weather"
    arguments = json.loads(call["arguments"])
    jsonschema.validate(arguments, TOOLS[0]["function"]["parameters"])
    assert arguments["city"] == "Paris"
    function = {"name": call["name"], "arguments": call["arguments"]}
    conversation = [
        *WEATHER,
        {
            "role": "assistant",
            "tool_calls": [{"id": call["id"], "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": call["id"], "content": "18 degrees, rain"},
    ]
    answer = client.chat.completions.create(
        model=MODEL, messages=conversation, tools=TOOLS, temperature=0, max_tokens=60
    )
    assert "18" in (answer.choices[0].message.content or "")


def test_the_responses_api_says_the_same(client: OpenAI) -> None:
    parsed = client.responses.parse(
        model=MODEL, input=ANNA, temperature=0, max_output_tokens=100, text_format=Person
    )
    assert parsed.output_parsed == Person(name="Anna", age=31, city="Paris")
    with client.responses.stream(
        model=MODEL, input="What is the capital of France?", temperature=0
    ) as stream:
        said = "".join(
            event.delta for event in stream if event.type == "response.output_text.delta"
        )
        whole = stream.get_final_response()
    assert said == whole.output_text == "The capital of France is Paris."
    assert whole.status == "completed"
    assert whole.usage is not None
    assert whole.usage.output_tokens == 8


def listed(client: OpenAI, stack: Stack, *, killing: bool) -> str:
    """A long list, streamed; perhaps with the decode worker killed in the middle of it."""
    text = ""
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "List the days of the month as JSON."}],
        temperature=0.8,
        seed=11,
        max_tokens=1_500,
        stream=True,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "days", "schema": LONG_LIST, "strict": True},
        },
    )
    for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        if killing and len(text) > 100:
            killing = False
            os.kill(stack.children()["decode"], signal.SIGKILL)
    return text


def test_a_worker_that_dies_in_the_middle_of_an_object_changes_nothing(
    client: OpenAI, stack: Stack
) -> None:
    """The rest comes from another process, which knows of the object only what was said."""
    alone = listed(client, stack, killing=False)
    assert listed(client, stack, killing=True) == alone
    stack.wait_for(r"decode-0 .*(killed|SIGKILL|signal)")
    assert stack.metric("baton_router_resubmissions_total") == 1
    jsonschema.validate(json.loads(alone), LONG_LIST)
