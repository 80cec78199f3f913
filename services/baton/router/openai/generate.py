"""From updates to pieces: the text and tokens each choice of a plan gains, in order of arrival.

Detokenizes, cuts at stop strings, tells thoughts from the answer and merges the choices of one
request into one stream of pieces.
Knows no HTTP and no JSON.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

import msgspec

from baton.engine.params import FinishReason, TokenSample
from baton.router.detokenize import Detokenizer, TokenBytes
from baton.router.openai.plan import Choice, Plan
from baton.router.openai.thoughts import Thinking, ThoughtReader
from baton.router.request_trace import RequestTrace
from baton.router.tenants.register import Tenant
from baton.router.work import Update, Work

PIECES_WAITING_MAX = 64
"""Per request with several choices: enough that no choice waits for a client that reads."""


class Runs(Protocol):
    """The dispatcher, as seen from here."""

    def run(self, work: Work) -> AsyncGenerator[Update, None]: ...


class Piece(msgspec.Struct, frozen=True):
    """What one choice gained. One per update, so made in C as they are."""

    index: int
    text: str
    samples: tuple[TokenSample, ...]  # the tokens behind the text, the finishing one included
    finish: FinishReason | None = None  # STOP or LENGTH, in the choice's last piece
    cached_tokens: int = 0  # of the prompt, in the first piece
    prompt_logprobs: tuple[TokenSample, ...] = ()  # in the first piece, where asked
    thought: str = ""  # stands before the text
    thought_tokens: int = 0  # how many more have turned out to be thoughts'
    stop: str | int | None = None  # in the last one: what stopped it, where the request named that


def generate(
    plan: Plan,
    runs: Runs,
    tokenizer: TokenBytes,
    *,
    plan_id: str,
    deadline_s: float,
    first_token_by_s: float | None,
    tenant: Tenant | None,
    trace: RequestTrace,
) -> AsyncGenerator[Piece, None]:
    """Pieces of all choices. Closing the generator cancels the work; an error of one choice ends
    them all."""
    salt = plan.cache_salt if tenant is None else tenant.salt(plan.cache_salt)
    choices = [
        _pieces(
            choice,
            runs,
            tokenizer,
            plan.thinking,
            Work(
                work_id=f"{plan_id}-{choice.index}",
                prompt=choice.prompt.token_ids,
                params=choice.params,
                deadline_s=deadline_s,
                cache_salt=salt,
                tenant=tenant,
                trace=trace,
                priority=plan.priority,
                first_token_by_s=first_token_by_s,
            ),
        )
        for choice in plan.choices
    ]
    return choices[0] if len(choices) == 1 else _merged(choices)


async def _pieces(
    choice: Choice, runs: Runs, tokenizer: TokenBytes, thinking: Thinking | None, work: Work
) -> AsyncGenerator[Piece, None]:
    detokenizer = Detokenizer(tokenizer, choice.text)
    thoughts = None if thinking is None else ThoughtReader(thinking)
    async with aclosing(runs.run(work)) as updates:
        async for update in updates:
            piece = _piece(choice, detokenizer, update)
            if thoughts is not None:
                piece = _split(piece, thoughts)
            yield piece
            if piece.finish is not None:
                return


def _piece(choice: Choice, detokenizer: Detokenizer, update: Update) -> Piece:
    samples, finish = update.tokens, update.finish
    text = ""
    if choice.discard:
        samples, finish = (), FinishReason.LENGTH
    else:
        # The token that stopped the request (end of sequence, stop token) is no text.
        speaking = samples[:-1] if finish is FinishReason.STOP else samples
        for count, sample in enumerate(speaking, start=1):
            text += detokenizer.feed(sample.token_id)
            if detokenizer.stopped:
                samples, finish = samples[:count], FinishReason.STOP
                break
        if finish is not None:
            text += detokenizer.finish()
            finish = FinishReason.STOP if detokenizer.stopped else finish
    return Piece(
        index=choice.index,
        text=text,
        samples=samples,
        finish=finish,
        stop=_stop(choice, detokenizer, samples) if finish is FinishReason.STOP else None,
        cached_tokens=(update.cached_tokens or 0) if choice.first_of_prompt else 0,
        prompt_logprobs=update.prompt_logprobs,
    )


def _stop(
    choice: Choice, detokenizer: Detokenizer, samples: Sequence[TokenSample]
) -> str | int | None:
    """A string, or the id of a token; None: the model's own end."""
    if detokenizer.stopped:
        return detokenizer.stop
    last = samples[-1].token_id if samples else None
    return last if last in choice.params.stop_token_ids else None


def _split(piece: Piece, thoughts: ThoughtReader) -> Piece:
    split = thoughts.feed(piece.text, piece.samples)
    thought, text = split.thought, split.text
    if piece.finish is not None:
        rest = thoughts.finish()
        thought, text = thought + rest.thought, text + rest.text
    return msgspec.structs.replace(
        piece, thought=thought, text=text, thought_tokens=split.thought_tokens
    )


async def _merged(
    choices: Sequence[AsyncGenerator[Piece, None]],
) -> AsyncGenerator[Piece, None]:
    """Pieces of several choices as they come."""
    pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue(PIECES_WAITING_MAX)
    pumps = [asyncio.create_task(_pump(choice, pieces)) for choice in choices]
    running = len(pumps)
    try:
        while running:
            piece = await pieces.get()
            if isinstance(piece, Exception):
                raise piece
            running -= piece.finish is not None
            yield piece
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)


async def _pump(
    choice: AsyncGenerator[Piece, None], pieces: "asyncio.Queue[Piece | Exception]"
) -> None:
    async with aclosing(choice) as own:
        try:
            async for piece in own:
                await pieces.put(piece)
        except Exception as error:
            await pieces.put(error)
