"""Packs a model's weights for the kernels, one linear layer at a time.

Knows which weights are fused and shared, and the kernels' panels; knows no file formats. All packed
weights lie in one stretch of memory, in large pages where the system has them: a step reads it from
end to end.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baton.engine.kernels.library import KernelLibrary
from baton.engine.kernels.selection import SCHEMES
from baton.engine.kernels.structs import (
    PANEL,
    EmbeddingKind,
    LayerStruct,
    LinearStruct,
    ModelStruct,
    Scheme,
)
from baton.engine.memory import Arena, whole_lines
from baton.engine.models.frequencies import inverse_frequencies
from baton.engine.quant.quantization import Quantization
from baton.engine.quant.schemes import ROTATED_CHANNELS, head_scheme, narrow_embedding
from baton.engine.weights.bfloat16 import narrowed
from baton.engine.weights.parts import Floats, Part, WeightSource
from baton.model.config import ModelConfig


@dataclass(slots=True)
class PackedModel:
    """What the kernels compute with, and what keeps its memory alive."""

    struct: ModelStruct
    kept: list[object] = field(default_factory=list)


def pack_model(
    source: WeightSource,
    config: ModelConfig,
    quantization: Quantization,
    library: KernelLibrary,
    threads: int,
) -> PackedModel:
    """Peak memory is the packed model and one fused tensor in float32. Raises ModelFileError."""
    return _Packer(source, config, quantization, library, threads).model()


class _Packer:
    def __init__(
        self,
        source: WeightSource,
        config: ModelConfig,
        quantization: Quantization,
        library: KernelLibrary,
        threads: int,
    ) -> None:
        self._source, self._config, self._quantization = source, config, quantization
        self._library, self._threads = library, threads
        self._kept: list[object] = []
        self._arena = self._new_arena()

    def model(self) -> PackedModel:
        config = self._config
        struct = ModelStruct(
            layer_count=config.layers,
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            mlp_size=config.intermediate_size,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_size=config.head_size,
            norm_epsilon=config.rms_norm_eps,
            final_norm=self._keep(self._source.fetch(Part.FINAL_NORM)),
            frequencies=self._keep(inverse_frequencies(config)),
        )
        layers = (LayerStruct * config.layers)(*map(self._layer, range(config.layers)))
        struct.layers = layers
        self._embedding_and_head(struct)
        self._kept += [layers, self._arena]
        return PackedModel(struct, self._kept)

    def _new_arena(self) -> Arena:
        config = self._config
        size, inner = config.hidden_size, config.intermediate_size
        q, kv = config.heads * config.head_size, config.kv_heads * config.head_size
        layer = (
            self._shape(q + 2 * kv, size),
            self._shape(size, q),
            self._shape(inner, size, paired=True),
            self._shape(size, inner),
        )
        layer_bytes = sum(self._bytes(shape) for shape in layer)
        head_bytes = self._bytes(self._shape(config.vocab_size, size, head=True))
        return Arena(config.layers * layer_bytes + head_bytes)

    def _shape(
        self, outer: int, inner: int, *, paired: bool = False, head: bool = False
    ) -> LinearStruct:
        scheme = head_scheme(self._quantization) if head else self._quantization
        return LinearStruct(
            scheme=SCHEMES[scheme],
            inner=inner,
            outer=outer,
            rotated=math.gcd(inner, ROTATED_CHANNELS),
            paired=paired,
        )

    def _bytes(self, shape: LinearStruct) -> int:
        return whole_lines(self._library.weight_bytes(shape))

    def _embedding_and_head(self, struct: ModelStruct) -> None:
        """Tied ones share memory where the head keeps the table's own values."""
        table = self._source.fetch(Part.EMBEDDING)
        tied = self._config.tied_embeddings
        if tied and self._quantization in (Quantization.NONE, Quantization.BF16):
            struct.embedding_kind = EmbeddingKind.FROM_HEAD
        else:
            narrow = narrow_embedding(self._quantization)
            struct.embedding_kind = (
                EmbeddingKind.ROWS_BFLOAT16 if narrow else EmbeddingKind.ROWS_FLOAT32
            )
            struct.embedding = self._keep(narrowed(table) if narrow else table)
        if not tied:
            del table  # the head is as large again
        weight = table if tied else self._source.fetch(Part.LM_HEAD)
        struct.head = self._linear(weight, None, head=True)

    def _layer(self, index: int) -> LayerStruct:
        config, fetch = self._config, self._source.fetch
        windowed = index in config.sliding_layers and config.sliding_window is not None
        layer = LayerStruct(
            qkv=self._fused(
                index,
                (Part.Q, Part.K, Part.V),
                (Part.Q_BIAS, Part.K_BIAS, Part.V_BIAS) if config.qkv_bias else (),
            ),
            output=self._fused(
                index, (Part.OUTPUT,), (Part.OUTPUT_BIAS,) if config.output_bias else ()
            ),
            gate_up=self._fused(
                index,
                (Part.GATE, Part.UP),
                (Part.GATE_BIAS, Part.UP_BIAS) if config.mlp_bias else (),
                paired=True,
            ),
            down=self._fused(index, (Part.DOWN,), (Part.DOWN_BIAS,) if config.mlp_bias else ()),
            attention_norm=self._keep(fetch(Part.ATTENTION_NORM, index)),
            mlp_norm=self._keep(fetch(Part.MLP_NORM, index)),
            window=config.sliding_window if windowed else 0,
        )
        if config.qk_norm:
            layer.q_norm = self._keep(fetch(Part.Q_NORM, index))
            layer.k_norm = self._keep(fetch(Part.K_NORM, index))
        return layer

    def _fused(
        self, index: int, weights: tuple[Part, ...], biases: tuple[Part, ...], paired: bool = False
    ) -> LinearStruct:
        bias = self._joined(index, biases) if biases else None
        return self._linear(self._joined(index, weights), bias, paired=paired)

    def _joined(self, index: int, parts: tuple[Part, ...]) -> Floats:
        arrays = [self._source.fetch(part, index) for part in parts]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def _linear(
        self,
        weight: Floats,
        bias: Floats | None,
        *,
        paired: bool = False,
        head: bool = False,
    ) -> LinearStruct:
        """weight [out, in], bias [out], float32; of a paired layer: gates, then ups."""
        weight = np.ascontiguousarray(weight)
        outer, inner = len(weight) // (2 if paired else 1), weight.shape[1]
        linear = self._shape(outer, inner, paired=paired, head=head)
        columns = self._library.panels(linear) * PANEL
        linear.weights = self._arena.take(self._library.weight_bytes(linear))
        if linear.scheme in (Scheme.INT8, Scheme.INT8_WEIGHT, Scheme.INT4):
            linear.scales = self._keep(np.zeros(columns, np.float32))
        if linear.scheme == Scheme.INT8:
            linear.sums = self._keep(np.zeros(columns, np.int32))
        if bias is not None:
            linear.bias = self._keep(panel_order(bias, columns, paired=paired))
        self._library.pack(
            linear, weight.ctypes.data, linear.weights, linear.scales, linear.sums, self._threads
        )
        return linear

    def _keep(self, array: NDArray[Any]) -> int:
        """Its address, for as long as the model lives."""
        array = np.ascontiguousarray(array)
        self._kept.append(array)
        return array.ctypes.data


def panel_order(bias: Floats, columns: int, *, paired: bool) -> Floats:
    """[out] -> [columns] as the panels order their columns, zero past the end."""
    if not paired:
        return np.pad(bias, (0, columns - len(bias)))
    halves = bias.reshape(2, -1)
    padded = np.pad(halves, ((0, 0), (0, columns // 2 - halves.shape[1])))
    return padded.reshape(2, -1, PANEL // 2).swapaxes(0, 1).reshape(-1)
