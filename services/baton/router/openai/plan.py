"""A checked request becomes a plan: one choice per prompt and n, each ready to be generated.

Everything that can be refused is refused here, before any work. Knows no workers beyond the context
length they can hold.
"""

from collections.abc import Callable
from dataclasses import dataclass

from baton.common.errors import InvalidRequest
from baton.engine.params import SamplingParams
from baton.model.grammar_text import thoughtful_grammar
from baton.router.detokenize import TextOptions
from baton.router.openai import params
from baton.router.openai.prompts import Ending, Prompt, chat_prompt, completion_prompts
from baton.router.openai.schemas import ChatRequest, CompletionRequest
from baton.router.openai.structured import Form, asked_form, naming, require_followable
from baton.router.openai.thoughts import MARKS, Thinking, opening_of, thinking_of
from baton.router.openai.tools.grammar import JsonText, tool_grammar
from baton.router.openai.tools.syntax import Calling, syntax_of
from baton.router.openai.tools.use import ToolUse, tool_use
from baton.router.text import TextModel

CHOICES_TOTAL_MAX = 1_024
"""Prompts times n: each is a request of its own to the workers."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One output to be generated."""

    index: int
    prompt: Prompt
    first_of_prompt: bool  # whose cached tokens are the prompt's: the others find its cache
    params: SamplingParams
    text: TextOptions
    discard: bool  # max_tokens 0: workers generate at least one token, which is thrown away


@dataclass(frozen=True, slots=True)
class Plan:
    choices: tuple[Choice, ...]
    stream: bool
    include_usage: bool
    logprobs: int | None
    echo: bool
    cache_salt: bytes
    priority: int = 0
    calling: Calling | None = None  # where the answers may call tools
    thinking: Thinking | None = None  # where thoughts may stand before them

    @property
    def prompt_tokens(self) -> int:
        """Each prompt counts once, however many choices it has."""
        return sum(len(c.prompt.token_ids) for c in self.choices if c.first_of_prompt)


async def plan_chat(
    request: ChatRequest, model: TextModel, *, context_length_max: int, new_seed: Callable[[], int]
) -> Plan:
    """Raises InvalidRequest."""
    count = params.choices(request)
    logprobs = params.chat_logprobs(request)
    text = params.text_options(request)
    usage = params.include_usage(request)
    salt = params.cache_salt(request)
    priority = params.priority(request)
    seed = params.given_seed(request)
    form, use, template = asked_form(request), tool_use(request), model.chat.source
    calling = None if use is None else Calling(syntax_of(template), use)
    grammar = await (
        _grammar(form) if calling is None else _calling_grammar(calling, form, opening_of(template))
    )
    prompt = await asked_prompt(request, use, model, context_length_max=context_length_max)
    thinking = _thinking(request, model, prompt)
    if grammar is not None and thinking is not None:
        grammar = thoughtful_grammar(grammar, *MARKS, begun=thinking.begun)
    max_tokens = params.chat_max_tokens(
        request, prompt_tokens=len(prompt.token_ids), context_length_max=context_length_max
    )
    base = new_seed() if seed is None else seed
    choices = tuple(
        Choice(
            index=index,
            prompt=prompt,
            first_of_prompt=index == 0,
            params=params.sampling_params(
                request,
                max_tokens=max_tokens,
                seed=params.choice_seed(base, index),
                vocab_size=model.vocab_size,
                logprobs=logprobs,
                prompt_logprobs=None,
                grammar=grammar,
            ),
            text=text,
            discard=False,
        )
        for index in range(count)
    )
    return Plan(
        choices,
        bool(request.stream),
        usage,
        logprobs,
        echo=False,
        cache_salt=salt,
        priority=priority,
        calling=calling,
        thinking=thinking,
    )


async def asked_prompt(
    request: ChatRequest, use: ToolUse | None, model: TextModel, *, context_length_max: int
) -> Prompt:
    """What the model is told, of tools too. Raises InvalidRequest."""
    return await chat_prompt(
        request.messages,
        params.template_variables(request),
        model,
        functions=() if use is None else use.functions,
        syntax=syntax_of(model.chat.source),
        ending=params.chat_ending(request),
        context_length_max=context_length_max,
    )


def _thinking(request: ChatRequest, model: TextModel, prompt: Prompt) -> Thinking | None:
    if params.chat_ending(request) is not Ending.ASSISTANT_SPEAKS:
        return None
    told = request.include_reasoning is not False
    return thinking_of(model, prompt.text or "", told=told)


async def plan_completion(
    request: CompletionRequest,
    model: TextModel,
    *,
    context_length_max: int,
    new_seed: Callable[[], int],
) -> Plan:
    """Raises InvalidRequest."""
    count = params.choices(request)
    logprobs = params.completion_logprobs(request)
    usage = params.include_usage(request)
    salt = params.cache_salt(request)
    priority = params.priority(request)
    seed = params.given_seed(request)
    params.text_options(request)
    grammar = await _grammar(asked_form(request))
    prompts = await completion_prompts(request.prompt, model, context_length_max=context_length_max)
    if len(prompts) * count > CHOICES_TOTAL_MAX:
        message = f"Prompts times 'n' may be at most {CHOICES_TOTAL_MAX}."
        raise InvalidRequest(message, param="n")
    choices: list[Choice] = []
    for prompt in prompts:
        # Without a seed each prompt draws its own; with one, each is as it would be alone.
        base = new_seed() if seed is None else seed
        for j in range(count):
            choice = _completion_choice(
                request,
                model,
                prompt,
                index=len(choices),
                j=j,
                seed=params.choice_seed(base, j),
                context_length_max=context_length_max,
                grammar=grammar,
            )
            choices.append(choice)
    return Plan(
        tuple(choices),
        bool(request.stream),
        usage,
        logprobs,
        bool(request.echo),
        cache_salt=salt,
        priority=priority,
    )


def _completion_choice(
    request: CompletionRequest,
    model: TextModel,
    prompt: Prompt,
    *,
    index: int,
    j: int,
    seed: int,
    context_length_max: int,
    grammar: str | None,
) -> Choice:
    max_tokens = params.completion_max_tokens(
        request, prompt_tokens=len(prompt.token_ids), context_length_max=context_length_max
    )
    logprobs = params.completion_logprobs(request)
    sampling = params.sampling_params(
        request,
        max_tokens=max(1, max_tokens),
        seed=seed,
        vocab_size=model.vocab_size,
        logprobs=logprobs,
        prompt_logprobs=logprobs if request.echo else None,
        grammar=grammar,
    )
    return Choice(
        index=index,
        prompt=prompt,
        first_of_prompt=j == 0,
        params=sampling,
        text=params.text_options(request),
        discard=max_tokens == 0,
    )


async def _grammar(form: Form | None) -> str | None:
    """Raises InvalidRequest for a form that no worker can hold an answer to."""
    if form is None:
        return None
    await require_followable(form.grammar, param=form.param)
    return form.grammar


async def _calling_grammar(calling: Calling, form: Form | None, opening: str | None) -> str:
    """Raises InvalidRequest."""
    text = None
    if form is not None:
        if form.schema is None:
            message = f"'{form.param}' may only ask for JSON where there are 'tools'."
            raise InvalidRequest(message, param=form.param)
        text = JsonText(form.schema, form.strict)
    with naming("tools"):
        grammar = tool_grammar(calling, text, reserved=opening)
    await require_followable(grammar, param="tools")
    return grammar
