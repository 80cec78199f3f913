"""How a request wants its tokens chosen, and what a chosen token looks like. Pure values.

Knows no tensors and no HTTP: the router turns OpenAI fields into `SamplingParams`, the sampler
reads them.
"""

from dataclasses import dataclass
from enum import Enum

TEMPERATURE_GREEDY = 1e-5
"""Below this a division by the temperature would overflow float32: such a request is greedy."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Fields carry OpenAI's and vLLM's names and meanings; the router has already checked their
    ranges."""

    max_tokens: int  # output tokens, at least 1
    min_tokens: int = 0  # before these, no stop token ends the request (their logits are masked)
    temperature: float = 1.0  # 0: greedy
    top_p: float = 1.0  # (0, 1]
    top_k: int = 0  # 0: off
    min_p: float = 0.0  # [0, 1]
    presence_penalty: float = 0.0  # counts output tokens only, like OpenAI
    frequency_penalty: float = 0.0  # counts output tokens only, like OpenAI
    repetition_penalty: float = 1.0  # over prompt and output, like transformers; 1: off
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, added to its logit)
    seed: int = 0  # unsigned 64 bits; with the position it decides each draw
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None  # None: none; k: the sampled token's and those of the k likeliest
    prompt_logprobs: int | None = None  # None: none; k: as `logprobs`, for every prompt token
    # What the output must follow, as `model.grammar` reads it; None: anything may be said.
    grammar: str | None = None

    @property
    def greedy(self) -> bool:
        return self.temperature < TEMPERATURE_GREEDY

    @property
    def penalised(self) -> bool:
        """Whether the sampler must look at earlier tokens."""
        return (
            self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
            or self.repetition_penalty != 1.0
        )

    def edits(self, tokens_out: int) -> bool:
        """Whether the row of the token after so many is not taken as the model left it."""
        return bool(self.logit_bias) or self.penalised or tokens_out < self.min_tokens


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    token_id: int
    logprob: float  # natural logarithm, of the raw distribution (before temperature and penalties)


@dataclass(frozen=True, slots=True)
class TokenSample:
    """One chosen token. `logprob` and `top` only where the request asked for logprobs."""

    token_id: int
    logprob: float | None = None
    top: tuple[TokenLogprob, ...] = ()  # likeliest first


class FinishReason(Enum):
    """Why a request ended; exactly one per request."""

    STOP = "stop"  # a stop token or end-of-sequence, which is the last token of the output
    LENGTH = "length"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    ERROR = "error"
