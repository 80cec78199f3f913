"""The part of the custom resource that says how workers compute. Pure.

The choices are the engine's, which the operator does not import. Knows no role and no pods.
"""

# ruff: noqa: RUF009 - `declared` makes the dataclass field

from dataclasses import dataclass
from enum import Enum

from baton_operator.declare import Rule, declared
from baton_operator.quantities import Memory
from baton_operator.sources import ModelSource


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
    """Where guesses come from, as `baton.engine.speculation` names it."""

    NONE = "none"
    PROMPT_LOOKUP = "prompt-lookup"
    DRAFT_MODEL = "draft-model"


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
class DraftModel:
    """A smaller model that guesses what the served one will say."""

    source: ModelSource = declared(
        "where its files are, written as model.source is; its vocabulary is as large as the"
        " model's, or workers do not start"
    )


# `has`, though it has a default: the API server holds the default of `engine` itself, which is
# empty, against these rules before it fills that in.
_DRAFTED = f"(has(self.speculation) && self.speculation == '{Speculation.DRAFT_MODEL.value}')"


@dataclass(frozen=True, slots=True)
class DecodeEngine(Engine):
    """How a decode worker computes. It alone guesses: prefill writes one token of an answer."""

    RULES = (
        Rule(
            f"!{_DRAFTED} || has(self.draftModel)",
            "speculation draft-model guesses with a model of its own: give draftModel.source",
            lambda engine: (
                engine.speculation is not Speculation.DRAFT_MODEL or engine.draft_model is not None
            ),
        ),
        Rule(
            f"!has(self.draftModel) || {_DRAFTED}",
            "draftModel is what speculation draft-model guesses with: write that, or drop"
            " draftModel",
            lambda engine: (
                engine.draft_model is None or engine.speculation is Speculation.DRAFT_MODEL
            ),
        ),
    )

    speculation: Speculation = declared(
        "where guesses at coming tokens come from; prompt-lookup: from what the request has said"
        " before; draft-model: from draftModel; answers stay the same, and guessing stops where it"
        " does not pay",
        default=Speculation.NONE,
    )
    draft_model: DraftModel | None = declared(
        "the smaller model of speculation draft-model; its KV comes on top of kvCache",
        default=None,
    )
