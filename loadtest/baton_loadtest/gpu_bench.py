"""How fast an engine alone decodes and prefills: no gRPC and no HTTP, all else as in a worker.

Every prompt is drawn anew, so none is found in the prefix cache. Knows engines; knows no devices
and no rooflines.
"""

from collections.abc import Iterator

import numpy as np
from baton.common.clock import Clock
from baton.common.errors import EngineFailure
from baton.engine.engine import Engine
from baton.engine.messages import Submit, Tokens
from baton.engine.params import SamplingParams

OUTPUT_TOKENS = 128
"""Of each decoding request: half before its context has the length asked for, half after."""

PREFILLS = 5
"""The best counts; the first also waits for what a library makes at its first call."""


class EngineBench:
    def __init__(
        self, engine: Engine, vocab_size: int, clock: Clock, *, output_tokens: int = OUTPUT_TOKENS
    ) -> None:
        self._engine, self._vocab_size, self._clock = engine, vocab_size, clock
        self._output_tokens = output_tokens
        self._random = np.random.default_rng(0)
        self._requests = 0

    def decode_tokens_per_s(self, requests: int, context_tokens: int) -> float:
        """Output of all requests together, from when every one has begun to when the first ends."""
        for _ in range(requests):
            self._submit(context_tokens - self._output_tokens // 2, self._output_tokens)
        begun: set[str] = set()
        for tokens in self._stepped():
            begun.update(event.request_id for event in tokens)
            if len(begun) == requests:
                break
        began_s = ended_s = self._clock.monotonic_s()
        emitted = 0
        for tokens in self._stepped():
            if any(event.finish is not None for event in tokens):
                break
            emitted += sum(len(event.tokens) for event in tokens)
            ended_s = self._clock.monotonic_s()
        self._drain()
        return emitted / (ended_s - began_s)

    def prefill_tokens_per_s(self, prompt_tokens: int) -> float:
        """Of one prompt, from its submission to its first token."""
        best_s = float("inf")
        for _ in range(PREFILLS):
            began_s = self._clock.monotonic_s()
            self._submit(prompt_tokens, 1)
            self._drain()
            best_s = min(best_s, self._clock.monotonic_s() - began_s)
        return prompt_tokens / best_s

    def _submit(self, prompt_tokens: int, output_tokens: int) -> None:
        prompt = self._random.integers(0, self._vocab_size, prompt_tokens).tolist()
        params = SamplingParams(max_tokens=output_tokens, temperature=0.0, ignore_eos=True)
        self._requests += 1
        self._engine.apply(Submit(str(self._requests), tuple(prompt), params))

    def _stepped(self) -> Iterator[list[Tokens]]:
        """The tokens of each step, while there is work. Raises EngineFailure."""
        while self._engine.has_work():
            found = [event for event in self._engine.step().events if isinstance(event, Tokens)]
            for event in found:
                if event.error is not None:  # a request that failed was fast, and is no figure
                    raise EngineFailure(f"request {event.request_id}: {event.error}")
            yield found

    def _drain(self) -> None:
        for _ in self._stepped():
            pass
