"""What each kind of kernel of a step reads or multiplies, and so how long it takes at least.

Pure: shapes in, seconds out. Of few rows memory bounds a kind, of many rows arithmetic. Knows
shapes; knows no device and no kernels.
"""

from dataclasses import dataclass

from baton.engine.quant.quantization import Quantization
from baton.model.config import ModelConfig

from baton_loadtest.gpu_report import decode_work, prefill_work
from baton_loadtest.gpu_roofline import (
    WEIGHT_BYTES,
    DeviceRates,
    decode_bytes,
    kv_bytes_per_token,
    prefill_flop,
)


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a bench: as many rows for every sequence, at the end of its context."""

    work: str
    sequences: int
    rows: int
    context_tokens: int

    @classmethod
    def decode(cls, requests: int, context_tokens: int) -> "Step":
        return cls(decode_work(requests), requests, requests, context_tokens)

    @classmethod
    def prefill(cls, tokens: int) -> "Step":
        """A whole prompt at once."""
        return cls(prefill_work(tokens), 1, tokens, tokens)

    @property
    def is_decode(self) -> bool:
        return self.rows == self.sequences


@dataclass(frozen=True, slots=True)
class KernelWork:
    """The kinds of one step."""

    config: ModelConfig
    quantization: Quantization
    kv_dtype: str
    step: Step
    rates: DeviceRates

    def least_s(self, kind: str) -> float:
        """Of all layers together; 0 where a kind reads next to nothing, as the small ones do."""
        if self.step.is_decode:
            return self.bytes_of(kind) / self.rates.copy_bytes_per_s
        return self.flop_of(kind) / self.rates.matrix_flop_per_s

    def bytes_of(self, kind: str) -> float:
        step, each = self.step, WEIGHT_BYTES[self.quantization]
        match kind:
            case "attention":
                tokens = step.sequences * step.context_tokens
                return float(tokens * kv_bytes_per_token(self.config, self.kv_dtype))
            case "head":
                return _weights("head", self.config) * max(each, 1.0)
            case "experts":
                whole = decode_bytes(
                    self.config,
                    self.quantization,
                    self.kv_dtype,
                    requests=step.sequences,
                    context_tokens=step.context_tokens,
                )
                return whole - sum(map(self.bytes_of, ("attention", "head", "qkv", "output")))
            case _:
                return _weights(kind, self.config) * each

    def flop_of(self, kind: str) -> float:
        step, config = self.step, self.config
        match kind:
            case "attention":
                pairs = step.rows * (step.rows + 1)
                return 2.0 * config.layers * config.heads * config.head_size * pairs
            case "head":
                return 2.0 * _weights(kind, config)
            case "experts":
                known = sum(map(self.flop_of, ("attention", "head", "qkv", "output")))
                return prefill_flop(config, step.rows) - known
            case _:
                return 2.0 * step.rows * _weights(kind, config)


def _weights(kind: str, config: ModelConfig) -> float:
    """Of all layers; 0 of a kind that has none worth counting."""
    hidden, wide = config.hidden_size, config.heads * config.head_size
    shapes = {
        "qkv": (wide + 2 * config.kv_heads * config.head_size) * hidden,
        "output": wide * hidden,
        "gate and up": 2 * config.intermediate_size * hidden,
        "down": config.intermediate_size * hidden,
    }
    if kind == "head":
        return float(config.vocab_size * hidden)
    return float(config.layers * shapes.get(kind, 0))
