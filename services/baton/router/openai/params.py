"""OpenAI's and vLLM's sampling fields to `SamplingParams` and `TextOptions`, every range checked.

Pure. Every refusal names the field it is about. Knows no prompts beyond their length.
"""

from collections.abc import Sequence
from hashlib import blake2b

from baton.common.errors import InvalidRequest, PromptTooLong
from baton.engine.params import SamplingParams
from baton.router.detokenize import TextOptions
from baton.router.openai.prompts import Ending
from baton.router.openai.schemas import ChatRequest, CompletionRequest, Generation

CHOICES_MAX = 128  # OpenAI's limit for n
STOPS_MAX = 64  # OpenAI stops at 4, evaluations of code send five and more
STOP_CHARACTERS_MAX = 1_000  # a stop string is searched for at every token
STOP_TOKEN_IDS_MAX = 128
LOGIT_BIAS_MAX = 1_024  # entries; OpenAI stops at 300
TOP_TOKEN_ALONE = 1  # top_k for who asks for a share of nothing
TOP_LOGPROBS_MAX = 20  # OpenAI's for chat; vLLM allows as many for completions
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
COMPLETION_TOKENS_DEFAULT = 16  # OpenAI's
CACHE_SALT_CHARACTERS_MAX = 128
CACHE_SALT_BYTES = 16
PRIORITY_MAX = (1 << 31) - 1  # what the wire takes
INT64_MAX = (1 << 63) - 1
UINT64_MASK = (1 << 64) - 1


def choices(request: Generation) -> int:
    """How many outputs per prompt."""
    n = _within("n", request.n, 1, CHOICES_MAX, default=1)
    if request.best_of is not None and request.best_of != n:
        raise InvalidRequest("'best_of' must equal 'n'.", param="best_of")
    return n


def include_usage(request: Generation) -> bool:
    if request.stream_options is None:
        return False
    if not request.stream:
        message = "'stream_options' is only allowed when 'stream' is true."
        raise InvalidRequest(message, param="stream_options")
    return bool(request.stream_options.include_usage)


def chat_ending(request: ChatRequest) -> Ending:
    if request.continue_final_message:
        if request.add_generation_prompt:
            message = "'continue_final_message' and 'add_generation_prompt' exclude each other."
            raise InvalidRequest(message, param="continue_final_message")
        return Ending.GOES_ON
    return Ending.NOWHERE if request.add_generation_prompt is False else Ending.ASSISTANT_SPEAKS


def priority(request: Generation) -> int:
    """vLLM's: the lower, the sooner."""
    return _within("priority", request.priority, -PRIORITY_MAX, PRIORITY_MAX, default=0)


def template_variables(request: ChatRequest) -> dict[str, object]:
    """What a chat template is told. No effort is not to think, which templates know as a switch."""
    effort = request.reasoning_effort
    if effort is not None and effort not in EFFORTS:
        message = f"'reasoning_effort' must be one of {', '.join(EFFORTS)}."
        raise InvalidRequest(message, param="reasoning_effort")
    told: dict[str, object] = {} if effort is None else {"reasoning_effort": effort}
    if effort == "none":
        told["enable_thinking"] = False
    return told | (request.chat_template_kwargs or {})


def chat_max_tokens(request: ChatRequest, *, prompt_tokens: int, context_length_max: int) -> int:
    """Output tokens; what fits where the request does not say, or asks for more."""
    name, asked = "max_completion_tokens", request.max_completion_tokens
    if asked is None:
        name, asked = "max_tokens", request.max_tokens
    if asked is not None and asked < 1:
        raise InvalidRequest(f"'{name}' must be at least 1, not {_shown(asked)}.", param=name)
    room = _room("messages", prompt_tokens, 1, context_length_max)
    return room if asked is None else min(asked, room)


def completion_max_tokens(
    request: CompletionRequest, *, prompt_tokens: int, context_length_max: int
) -> int:
    """Output tokens, as many as fit; 0 only with `echo`, for those who want the prompt's
    logprobs."""
    asked = request.max_tokens
    least = 0 if request.echo else 1
    if asked is not None and asked < least:
        message = f"'max_tokens' must be at least 1 (0 with 'echo'), not {_shown(asked)}."
        raise InvalidRequest(message, param="max_tokens")
    room = _room("prompt", prompt_tokens, 0 if asked == 0 else 1, context_length_max)
    return min(room, COMPLETION_TOKENS_DEFAULT if asked is None else asked)


def _room(name: str, prompt_tokens: int, least: int, context_length_max: int) -> int:
    """Output tokens that fit after the prompt. Raises PromptTooLong where `least` do not."""
    if prompt_tokens + least > context_length_max:
        raise PromptTooLong(
            f"This model's maximum context length is {context_length_max} tokens. However, you "
            f"requested at least {prompt_tokens + least} tokens ({prompt_tokens} in the {name}, "
            f"{least} in the completion). Please shorten it.",
            param=name,
        )
    return context_length_max - prompt_tokens


def sampling_params(
    request: Generation,
    *,
    max_tokens: int,
    seed: int,
    vocab_size: int,
    logprobs: int | None,
    prompt_logprobs: int | None,
    grammar: str | None,
) -> SamplingParams:
    if grammar is not None:
        _refuse_beside_grammar(request)
    top_p = _between("top_p", request.top_p, 0.0, 1.0, default=1.0)
    top_k = _within("top_k", request.top_k, -1, INT64_MAX, default=0)
    return SamplingParams(
        max_tokens=max_tokens,
        min_tokens=_within("min_tokens", request.min_tokens, 0, max_tokens, default=0),
        temperature=_between("temperature", request.temperature, 0.0, 2.0, default=1.0),
        top_p=top_p or 1.0,
        top_k=(0 if top_k == -1 else min(top_k, vocab_size)) if top_p else TOP_TOKEN_ALONE,
        min_p=_between("min_p", request.min_p, 0.0, 1.0, default=0.0),
        presence_penalty=_between(
            "presence_penalty", request.presence_penalty, -2.0, 2.0, default=0.0
        ),
        frequency_penalty=_between(
            "frequency_penalty", request.frequency_penalty, -2.0, 2.0, default=0.0
        ),
        repetition_penalty=_above_zero(
            "repetition_penalty", request.repetition_penalty, 10.0, default=1.0
        ),
        logit_bias=_logit_bias(request.logit_bias, vocab_size),
        seed=seed,
        stop_token_ids=_stop_token_ids(request.stop_token_ids, vocab_size),
        ignore_eos=bool(request.ignore_eos),
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        grammar=grammar,
    )


def _refuse_beside_grammar(request: Generation) -> None:
    """Where the grammar ends, only the end may follow: nothing could be said until `min_tokens`,
    and nothing after an end that is ignored."""
    for name in ("min_tokens", "ignore_eos"):
        if getattr(request, name):
            message = (
                f"'{name}' cannot be honoured beside 'response_format', 'structured_outputs' or "
                "'tools'."
            )
            raise InvalidRequest(message, param=name)


def text_options(request: Generation) -> TextOptions:
    return TextOptions(
        stops=_stops(request.stop),
        include_stop=bool(request.include_stop_str_in_output),
        skip_special=request.skip_special_tokens is not False,
        min_tokens=request.min_tokens or 0,
    )


def chat_logprobs(request: ChatRequest) -> int | None:
    """How many alternatives per token; None without logprobs."""
    top = _within("top_logprobs", request.top_logprobs, 0, TOP_LOGPROBS_MAX, default=0)
    if request.top_logprobs is not None and not request.logprobs:
        message = "'top_logprobs' is only allowed when 'logprobs' is true."
        raise InvalidRequest(message, param="top_logprobs")
    return top if request.logprobs else None


def completion_logprobs(request: CompletionRequest) -> int | None:
    if request.logprobs is None:
        return None
    return _within("logprobs", request.logprobs, 0, TOP_LOGPROBS_MAX, default=0)


def given_seed(request: Generation) -> int | None:
    """The seed as 64 unsigned bits; None where the request leaves it to us."""
    if request.seed is None:
        return None
    return _within("seed", request.seed, -INT64_MAX - 1, INT64_MAX, default=0) & UINT64_MASK


def choice_seed(seed: int, choice: int) -> int:
    """Choice 0 keeps the seed, so that n=1 and the first of n are the same output."""
    if choice == 0:
        return seed
    key = seed.to_bytes(8, "little") + choice.to_bytes(8, "little")
    return int.from_bytes(blake2b(key, digest_size=8, person=b"baton-choice").digest(), "little")


def cache_salt(request: Generation) -> bytes:
    """16 bytes that keep the prefix cache of those who know the salt apart; empty without one."""
    salt = request.cache_salt
    if salt is None:
        return b""
    if not 0 < len(salt) <= CACHE_SALT_CHARACTERS_MAX or not salt.isprintable():
        message = f"'cache_salt' must have 1 to {CACHE_SALT_CHARACTERS_MAX} printable characters."
        raise InvalidRequest(message, param="cache_salt")
    return blake2b(salt.encode(), digest_size=CACHE_SALT_BYTES).digest()


def _within(name: str, value: int | None, least: int, most: int, *, default: int) -> int:
    if value is None:
        return default
    if not least <= value <= most:
        message = f"'{name}' must be between {least} and {most}, not {_shown(value)}."
        raise InvalidRequest(message, param=name)
    return value


def _between(name: str, value: float | None, least: float, most: float, *, default: float) -> float:
    if value is None:
        return default
    if not least <= value <= most:
        message = f"'{name}' must be between {least:g} and {most:g}, not {value:g}."
        raise InvalidRequest(message, param=name)
    return value


def _above_zero(name: str, value: float | None, most: float, *, default: float) -> float:
    if value is None:
        return default
    if not 0.0 < value <= most:
        message = f"'{name}' must be greater than 0 and at most {most:g}, not {value:g}."
        raise InvalidRequest(message, param=name)
    return value


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > STOPS_MAX:
        message = f"'stop' may have at most {STOPS_MAX} strings, not {len(stops)}."
        raise InvalidRequest(message, param="stop")
    if not all(0 < len(text) <= STOP_CHARACTERS_MAX for text in stops):
        message = f"Each string of 'stop' must have 1 to {STOP_CHARACTERS_MAX} characters."
        raise InvalidRequest(message, param="stop")
    return stops


def _stop_token_ids(ids: Sequence[int] | None, vocab_size: int) -> tuple[int, ...]:
    if ids is None:
        return ()
    if len(ids) > STOP_TOKEN_IDS_MAX or not all(0 <= i < vocab_size for i in ids):
        message = f"'stop_token_ids' may have at most {STOP_TOKEN_IDS_MAX} ids below {vocab_size}."
        raise InvalidRequest(message, param="stop_token_ids")
    return tuple(ids)


def _logit_bias(bias: dict[str, float] | None, vocab_size: int) -> tuple[tuple[int, float], ...]:
    entries = bias or {}
    if len(entries) > LOGIT_BIAS_MAX:
        message = f"'logit_bias' may have at most {LOGIT_BIAS_MAX} entries, not {len(entries)}."
        raise InvalidRequest(message, param="logit_bias")
    checked = {_bias_token(text, vocab_size): value for text, value in entries.items()}
    if not all(-100.0 <= value <= 100.0 for value in checked.values()):
        message = "Each value of 'logit_bias' must be between -100 and 100."
        raise InvalidRequest(message, param="logit_bias")
    return tuple(sorted(checked.items()))


def _bias_token(text: str, vocab_size: int) -> int:
    # No token id has more digits than this; int() of a huge text would take long.
    if len(text) <= 10 and text.isascii() and text.isdigit() and int(text) < vocab_size:
        return int(text)
    message = f"Each key of 'logit_bias' must be a token id below {vocab_size}."
    raise InvalidRequest(message, param="logit_bias")


def _shown(number: int) -> str:
    """A number from outside, for a message: JSON allows ones of any length."""
    return str(number) if abs(number) <= INT64_MAX else "a number beyond 64 bits"
