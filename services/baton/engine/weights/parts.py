"""The parts a decoder is made of, their shapes, and the one interface that fetches them.

Knows what the decoder needs; knows no file format: each maps `Part` to its own tensor names.
"""

from enum import Enum, auto
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from baton.common.errors import ModelFileError
from baton.model.config import ModelConfig

Floats = NDArray[np.float32]


class Part(Enum):
    """A weight of the decoder. The first three exist once, all others once per layer."""

    EMBEDDING = auto()
    FINAL_NORM = auto()
    LM_HEAD = auto()
    ATTENTION_NORM = auto()
    Q = auto()
    K = auto()
    V = auto()
    Q_BIAS = auto()
    K_BIAS = auto()
    V_BIAS = auto()
    Q_NORM = auto()
    K_NORM = auto()
    OUTPUT = auto()
    OUTPUT_BIAS = auto()
    MLP_NORM = auto()
    GATE = auto()
    UP = auto()
    DOWN = auto()
    GATE_BIAS = auto()
    UP_BIAS = auto()
    DOWN_BIAS = auto()
    ROUTER = auto()


class ExpertPart(Enum):
    """A weight of an expert: once per layer and expert."""

    GATE = auto()
    UP = auto()
    DOWN = auto()


class WeightSource(Protocol):
    """Weights, fetched one at a time so that memory peaks near the size of the built model."""

    def fetch(self, part: Part, layer: int | None = None) -> Floats:
        """An array of the caller's own, of `part_shape`. Raises ModelFileError."""
        ...

    def fetch_expert(self, part: ExpertPart, layer: int, expert: int) -> Floats:
        """The same for a mixture, of `expert_shape`."""
        ...


def part_shape(part: Part, config: ModelConfig) -> tuple[int, ...]:
    """The shape of a part; matrices are [out, in]."""
    hidden, inner = config.hidden_size, config.intermediate_size
    q, kv = config.heads * config.head_size, config.kv_heads * config.head_size
    match part:
        case Part.EMBEDDING | Part.LM_HEAD:
            return (config.vocab_size, hidden)
        case Part.Q:
            return (q, hidden)
        case Part.K | Part.V:
            return (kv, hidden)
        case Part.OUTPUT:
            return (hidden, q)
        case Part.GATE | Part.UP:
            return (inner, hidden)
        case Part.DOWN:
            return (hidden, inner)
        case Part.Q_BIAS:
            return (q,)
        case Part.K_BIAS | Part.V_BIAS:
            return (kv,)
        case Part.Q_NORM | Part.K_NORM:
            return (config.head_size,)
        case Part.GATE_BIAS | Part.UP_BIAS:
            return (inner,)
        case Part.ROUTER:
            return (config.experts, hidden)
        case _:  # norms and biases as wide as the residual stream
            return (hidden,)


def expert_shape(part: ExpertPart, config: ModelConfig) -> tuple[int, int]:
    """[out, in] of an expert's matrix."""
    hidden, inner = config.hidden_size, config.expert_intermediate_size
    return (hidden, inner) if part is ExpertPart.DOWN else (inner, hidden)


def check_shape(
    file_name: str, name: str, found: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    """Raises ModelFileError when a file holds another shape than the model's configuration says."""
    if found != expected:
        raise ModelFileError(
            f"{file_name}: tensor {name} has shape {list(found)}, expected {list(expected)}"
        )
