"""Sampling fields: defaults, ranges, and the field a refusal names."""

import pytest
from baton.common.errors import InvalidRequest, PromptTooLong
from baton.engine.params import SamplingParams
from baton.router.openai import params
from baton.router.openai.schemas import ChatRequest, CompletionRequest

INF = float("inf")


def chat(**fields: object) -> ChatRequest:
    return ChatRequest(model="m", messages=[], **fields)  # type: ignore[arg-type]


def completion(**fields: object) -> CompletionRequest:
    return CompletionRequest(model="m", prompt="x", **fields)  # type: ignore[arg-type]


def sampling(**fields: object) -> SamplingParams:
    return params.sampling_params(
        chat(**fields),
        max_tokens=10,
        seed=1,
        vocab_size=50,
        logprobs=None,
        prompt_logprobs=None,
        grammar=None,
    )


def test_defaults_are_openais() -> None:
    assert sampling() == SamplingParams(max_tokens=10, seed=1)


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("temperature", (0, 2), (-0.1, 2.1, INF)),
        ("top_p", (1e-9, 1), (1.1, -1)),
        ("min_p", (0, 1), (-0.1, 1.1)),
        ("top_k", (-1, 0, 1, 10**9), (-2, 2**63)),
        ("presence_penalty", (-2, 2), (-2.1, 2.1)),
        ("frequency_penalty", (-2, 2), (-2.1, 2.1)),
        ("repetition_penalty", (0.1, 10), (0, -1, 10.1)),
        ("min_tokens", (0, 10), (-1, 11)),
        ("logit_bias", ({"0": -100, "49": 100},), ({"50": 0}, {"-1": 0}, {"1": 101}, {"²": 1})),
        ("stop_token_ids", ([], [0, 49]), ([50], [-1], list(range(49)) * 3)),
    ],
)
def test_ranges(field: str, good: tuple[object, ...], bad: tuple[object, ...]) -> None:
    for value in good:
        sampling(**{field: value})
    for value in bad:
        with pytest.raises(InvalidRequest) as refused:
            sampling(**{field: value})
        assert refused.value.param == field


@pytest.mark.parametrize(("top_k", "meant"), [(-1, 0), (0, 0), (7, 7), (10**9, 50)])
def test_top_k_of_vllm_and_beyond_the_vocabulary(top_k: int, meant: int) -> None:
    assert sampling(top_k=top_k).top_k == meant


@pytest.mark.parametrize(
    ("stop", "stops"),
    [(None, ()), ("a", ("a",)), ([], ()), (["a", "b"], ("a", "b"))],
)
def test_stop_strings(stop: object, stops: tuple[str, ...]) -> None:
    assert params.text_options(chat(stop=stop)).stops == stops


@pytest.mark.parametrize("stop", ["", ["a", ""], ["a"] * 65, "x" * 1_001])
def test_stop_strings_out_of_bounds(stop: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        params.text_options(chat(stop=stop))
    assert refused.value.param == "stop"


@pytest.mark.parametrize(
    ("fields", "prompt_tokens", "expected"),
    [
        pytest.param({}, 30, 70, id="what-fits"),
        pytest.param({"max_tokens": 5}, 30, 5, id="old-name"),
        pytest.param({"max_completion_tokens": 6, "max_tokens": 5}, 30, 6, id="new-name-wins"),
        pytest.param({"max_tokens": 70}, 30, 70, id="exactly-full"),
        pytest.param({"max_tokens": 10**6}, 30, 70, id="more-than-fits"),
    ],
)
def test_chat_max_tokens(fields: dict[str, int], prompt_tokens: int, expected: int) -> None:
    given = params.chat_max_tokens(
        chat(**fields), prompt_tokens=prompt_tokens, context_length_max=100
    )
    assert given == expected


def test_a_prompt_that_fills_the_context_leaves_no_room_for_an_answer() -> None:
    with pytest.raises(PromptTooLong, match="101 tokens \\(100 in the messages, 1 in"):
        params.chat_max_tokens(chat(), prompt_tokens=100, context_length_max=100)


@pytest.mark.parametrize(
    ("fields", "prompt_tokens", "expected"),
    [
        pytest.param({}, 10, 16, id="default"),
        pytest.param({}, 90, 10, id="default-shrinks-to-fit"),
        pytest.param({"max_tokens": 0, "echo": True}, 100, 0, id="echo-only"),
        pytest.param({"max_tokens": 50}, 90, 10, id="more-than-fits"),
    ],
)
def test_completion_max_tokens(
    fields: dict[str, object], prompt_tokens: int, expected: int
) -> None:
    given = params.completion_max_tokens(
        completion(**fields), prompt_tokens=prompt_tokens, context_length_max=100
    )
    assert given == expected


def test_zero_tokens_without_echo_ask_for_nothing() -> None:
    with pytest.raises(InvalidRequest) as refused:
        params.completion_max_tokens(
            completion(max_tokens=0), prompt_tokens=1, context_length_max=9
        )
    assert refused.value.param == "max_tokens"


def test_a_share_of_nothing_is_the_likeliest_token_alone() -> None:
    assert (sampling(top_p=0).top_k, sampling(top_p=0, top_k=40).top_k) == (1, 1)
    assert sampling(top_p=0).top_p == 1.0


@pytest.mark.parametrize("effort", ["", "bogus", "None"])
def test_an_effort_that_nobody_knows_is_refused(effort: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        params.template_variables(chat(reasoning_effort=effort))
    assert refused.value.param == "reasoning_effort"


def test_seeds_are_64_bits_and_choices_differ() -> None:
    assert params.given_seed(chat()) is None
    assert params.given_seed(chat(seed=-1)) == 2**64 - 1
    assert params.given_seed(chat(seed=2**63 - 1)) == 2**63 - 1
    with pytest.raises(InvalidRequest):
        params.given_seed(chat(seed=2**63))
    seeds = {params.choice_seed(5, choice) for choice in range(100)}
    assert params.choice_seed(5, 0) == 5
    assert len(seeds) == 100
    assert all(0 <= seed < 2**64 for seed in seeds)


@pytest.mark.parametrize("salt", ["", "x" * 129, "a\0b"])
def test_cache_salts_out_of_bounds(salt: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        params.cache_salt(chat(cache_salt=salt))
    assert refused.value.param == "cache_salt"


def test_logprobs_of_chat() -> None:
    assert params.chat_logprobs(chat()) is None
    assert params.chat_logprobs(chat(logprobs=False)) is None
    assert params.chat_logprobs(chat(logprobs=True)) == 0
    assert params.chat_logprobs(chat(logprobs=True, top_logprobs=20)) == 20


def test_huge_numbers_are_not_echoed() -> None:
    with pytest.raises(InvalidRequest) as refused:
        params.chat_max_tokens(chat(max_tokens=-(10**4000)), prompt_tokens=1, context_length_max=9)
    assert len(refused.value.message) < 200
