"""What a user sees: `baton serve` with SmolLM2 and the unmodified `openai` client."""

from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI
from support.stack import Stack, serve

MODEL = "smollm2-135m"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]

pytestmark = pytest.mark.smollm2


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with serve(tmp_path_factory.mktemp("serve") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def test_the_capital_of_france_is_paris(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        temperature=0,  # type: ignore[arg-type]
    )
    assert answer.choices[0].message.content == "The capital of France is Paris."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_the_same_in_pieces_and_its_usage_at_the_end(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=QUESTION,  # type: ignore[arg-type]
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == "The capital of France is Paris."
    assert len([piece for piece in pieces if piece]) > 3
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 8
    assert chunks[-1].usage.prompt_tokens_details is not None
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == 32  # the prompt was here before


def test_prompts_went_through_the_hand_off(stack: Stack, client: OpenAI) -> None:
    client.completions.create(
        model=MODEL, prompt="A road that nobody went before: " * 8, max_tokens=2
    )
    log = stack.metric("baton_router_decisions_total")
    assert log >= 1
    text = stack.text()
    assert "hand-off failed" not in text


@pytest.mark.parametrize("stream", [False, True])
def test_completions_take_text_lists_and_token_ids(client: OpenAI, stream: bool) -> None:
    def texts(prompt: object) -> dict[int, str]:
        answer = client.completions.create(
            model=MODEL,
            prompt=prompt,  # type: ignore[arg-type]
            temperature=0,
            max_tokens=8,
            stream=stream,
        )
        found: dict[int, str] = {}
        for part in answer if stream else [answer]:
            for choice in part.choices:
                found[choice.index] = found.get(choice.index, "") + choice.text
        return found

    one = texts("The three primary colours are")
    assert len(one[0]) > 5
    both = texts(["The three primary colours are", "Once upon a time"])
    assert both[0] == one[0]
    assert both[1] != one[0]
    ids = texts([504, 2260, 5084, 8373, 359])
    assert len(ids[0]) > 0


def test_echo_and_logprobs_score_the_prompt(client: OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="Paris is in France", echo=True, logprobs=1, max_tokens=1, temperature=0
    )
    choice = answer.choices[0]
    assert choice.text.startswith("Paris is in France")
    assert choice.logprobs is not None
    values = choice.logprobs.token_logprobs
    assert values is not None
    assert values[0] is None
    assert all(value is not None and value <= 0 for value in values[1:])
    assert "".join(choice.logprobs.tokens or []) == choice.text


def test_chat_logprobs_name_the_likeliest_tokens(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,  # type: ignore[arg-type]
        temperature=0,
        logprobs=True,
        top_logprobs=3,
        max_tokens=4,
    )
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content
    assert content is not None
    assert [entry.token for entry in content] == ["The", " capital", " of", " France"]
    for entry in content:
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].logprob == entry.logprob
        assert bytes(entry.bytes or []).decode() == entry.token


def test_a_seed_repeats_and_n_choices_differ(client: OpenAI) -> None:
    def ask(seed: int) -> list[str]:
        answer = client.completions.create(
            model=MODEL,
            prompt="My favourite animal is",
            n=2,
            seed=seed,
            max_tokens=12,
            temperature=1.2,
        )
        return [choice.text for choice in answer.choices]

    first = ask(7)
    assert ask(7) == first
    assert ask(8) != first
    assert first[0] != first[1]


def test_a_stop_string_ends_the_text_before_it(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,  # type: ignore[arg-type]
        temperature=0,
        stop=[" is Par", "zzz"],
    )
    assert answer.choices[0].message.content == "The capital of France"
    assert answer.choices[0].finish_reason == "stop"


def test_the_length_limit_is_told(client: OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="One, two,", max_tokens=3, extra_body={"ignore_eos": True}
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_models_are_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, openai.BadRequestError, None),
        ({"n": 10_000}, openai.BadRequestError, "n"),
        ({"model": "gpt-nothing"}, openai.NotFoundError, "model"),
        (
            {"messages": [{"role": "user", "content": "word " * 9000}]},
            openai.BadRequestError,
            "messages",
        ),
    ],
    ids=["range", "zero", "empty", "role", "n", "model", "too-long"],
)
def test_bad_input_is_told_in_openais_way(
    client: OpenAI, fields: dict[str, object], kind: type[openai.APIStatusError], param: str | None
) -> None:
    request: dict[str, object] = {"model": MODEL, "messages": QUESTION, **fields}
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**request)  # type: ignore[call-overload]
    body = caught.value.body
    assert isinstance(body, dict)
    assert set(body) == {"message", "type", "param", "code"}
    assert len(body["message"]) < 1000
    if param is not None:
        assert body["param"] is not None
        assert str(body["param"]).startswith(param)
