"""Steady streamed load that notices every lost, failed or changed answer.

A few streams ask a fixed set of questions over and over through OpenAI's own client, without its
retries, and compare each answer with the one the undisturbed service gave. Knows no cluster and no
faults: whoever runs it breaks things meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from baton.common.clock import Clock
from openai import AsyncOpenAI, OpenAIError

ANSWER_LIMIT_S = 120.0
"""An answer of some hundred tokens takes seconds; a fault may add a restart or two."""

FAILURE_PAUSE_S = 0.2
"""A stream whose request was refused asks again, but does not spin."""


@dataclass(frozen=True, slots=True)
class Question:
    """A chat request that greedy decoding answers the same way each time."""

    text: str
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One streamed answer, or what became of it."""

    question: int  # index
    started_s: float
    first_s: float | None
    ended_s: float
    chunks: int
    text: str
    failure: str | None = None

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_s is None else self.first_s - self.started_s

    @property
    def itl_s(self) -> float | None:
        """Mean time between chunks."""
        if self.first_s is None or self.chunks < 2:
            return None
        return (self.ended_s - self.first_s) / (self.chunks - 1)


class SteadyLoad:
    """Asks, keeps the answers, and says which were not as they should be."""

    def __init__(
        self,
        base_url: str,
        model: str,
        questions: Sequence[Question],
        *,
        clock: Clock,
        api_key: str = "none",
    ) -> None:
        self._client = AsyncOpenAI(
            base_url=base_url, api_key=api_key, max_retries=0, timeout=ANSWER_LIMIT_S
        )
        self._model = model
        self._questions = tuple(questions)
        self._clock = clock
        self._references: dict[int, str] = {}
        self._next = 0
        self.answers: list[Answer] = []

    async def learn(self) -> None:
        """Take the undisturbed answers, one after the other. Raises OpenAIError."""
        for index in range(len(self._questions)):
            answer = await self._ask(index)
            if answer.failure is not None:
                raise OpenAIError(f"question {index}: {answer.failure}")
            self._references[index] = answer.text

    @asynccontextmanager
    async def running(self, streams: int) -> AsyncIterator[None]:
        """Inside, `streams` requests are always in flight; at the end all of them are answered."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._stream(stop)) for _ in range(streams)]
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait(tasks)
            for task in tasks:
                task.result()

    async def aclose(self) -> None:
        await self._client.close()

    @property
    def failures(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.failure is not None]

    @property
    def changed(self) -> list[Answer]:
        """Answers that are not what the undisturbed service said, token for token."""
        return [
            answer
            for answer in self.answers
            if answer.failure is None and answer.text != self._references[answer.question]
        ]

    async def _stream(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            index = self._next % len(self._questions)
            self._next += 1
            answer = await self._ask(index)
            self.answers.append(answer)
            if answer.failure is not None:
                await asyncio.sleep(FAILURE_PAUSE_S)

    async def _ask(self, index: int) -> Answer:
        question = self._questions[index]
        started_s, first_s = self._clock.monotonic_s(), None
        pieces: list[str] = []
        finish, failure = None, None
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                stream = await self._client.chat.completions.create(
                    model=self._model,
                    messages=[{"role": "user", "content": question.text}],
                    max_tokens=question.output_tokens,
                    temperature=0,
                    stream=True,
                )
                async for chunk in stream:
                    for choice in chunk.choices:
                        if choice.delta.content:
                            first_s = first_s or self._clock.monotonic_s()
                            pieces.append(choice.delta.content)
                        finish = choice.finish_reason or finish
        except (OpenAIError, TimeoutError) as error:
            failure = f"{type(error).__name__}: {error}"
        if failure is None and finish is None:
            failure = "the stream ended without a finish reason"
        return Answer(
            index,
            started_s,
            first_s,
            self._clock.monotonic_s(),
            len(pieces),
            "".join(pieces),
            failure,
        )
