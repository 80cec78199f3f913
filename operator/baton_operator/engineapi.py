"""The part of the custom resource that says how workers compute. Pure.

The choices are the engine's, which the operator does not import. Knows no role and no pods.
"""

# ruff: noqa: RUF009 - `declared` makes the dataclass field

from dataclasses import dataclass
from enum import Enum

from baton_operator.declare import declared
from baton_operator.quantities import Memory


class Quantization(Enum):
    """The compute schemes of `baton.engine.quant`."""

    NONE = "none"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"  # pods without a GPU only
    INT8_WEIGHT_ONLY = "int8-weight-only"
    INT4_WEIGHT_ONLY = "int4-weight-only"
    FP8 = "fp8"  # pods with a GPU only


class KvCacheDtype(Enum):
    """What KV blocks can hold, as `baton.engine.quant` names it."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    FP8 = "fp8"  # pods with a GPU only


class Speculation(Enum):
    """What a ModelService can say of `baton.engine.speculation`: a draft model takes weights of its
    own, which no field names yet."""

    NONE = "none"
    PROMPT_LOOKUP = "prompt-lookup"


@dataclass(frozen=True, slots=True)
class Engine:
    """How a worker computes."""

    quantization: Quantization | None = declared(
        "how linear layers compute; equal in both roles, so it is enough to say it once; fp8 takes"
        " a GPU, int4 none",
        default=None,
    )
    kv_cache_dtype: KvCacheDtype | None = declared(
        "what KV blocks hold; auto, if absent: what suits the quantization; equal in both roles, so"
        " it is enough to say it once; fp8 takes a GPU",
        default=None,
    )
    kv_cache: Memory | None = declared(
        "memory for KV blocks, such as 2Gi; absent: the worker's default", default=None
    )


@dataclass(frozen=True, slots=True)
class DecodeEngine(Engine):
    """How a decode worker computes. It alone guesses: prefill writes one token of an answer."""

    speculation: Speculation = declared(
        "where guesses at coming tokens come from; prompt-lookup: from what the request has said"
        " before; answers stay the same, and guessing stops where it does not pay",
        default=Speculation.NONE,
    )
