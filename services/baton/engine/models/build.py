"""Builds a decoder from a source of weights, one layer at a time, under one compute scheme.

Knows which weights are fused and shared; knows no file formats.
"""

import torch

from baton.engine.kernels.library import KernelLibrary
from baton.engine.models.decoder import Decoder, DecoderLayer
from baton.engine.models.native import NativeDecoder
from baton.engine.models.packed import pack_model
from baton.engine.models.steps import StepModel
from baton.engine.quant.linear import Linear, embedding_dtype, head_scheme, make_linear
from baton.engine.quant.quantization import Quantization
from baton.engine.weights.parts import Part, WeightSource
from baton.model.config import ModelConfig


def build_step_model(
    source: WeightSource,
    config: ModelConfig,
    quantization: Quantization,
    *,
    library: KernelLibrary | None,
    threads: int,
) -> StepModel:
    """The decoder on the kernels of `library`, or on torch without one. Raises ModelFileError."""
    if library is None:
        return build_decoder(source, config, quantization)
    packed = pack_model(source, config, quantization, library, threads)
    return NativeDecoder(config, library, packed, threads)


def build_decoder(source: WeightSource, config: ModelConfig, quantization: Quantization) -> Decoder:
    """Peak memory is the finished decoder and one tensor in float32. Raises ModelFileError."""
    builder = _Builder(source, config, quantization)
    embedding, lm_head = builder.embedding_and_head()
    return Decoder(
        config,
        embedding=embedding,
        layers=tuple(builder.layer(index) for index in range(config.layers)),
        final_norm=source.fetch(Part.FINAL_NORM),
        lm_head=lm_head,
    )


class _Builder:
    def __init__(
        self, source: WeightSource, config: ModelConfig, quantization: Quantization
    ) -> None:
        self._source, self._config, self._quantization = source, config, quantization

    def embedding_and_head(self) -> tuple[torch.Tensor, Linear]:
        """The table [vocab, hidden] and the head; tied ones share memory where types allow."""
        table = self._source.fetch(Part.EMBEDDING)
        if not self._config.tied_embeddings:
            embedding = table.to(embedding_dtype(self._quantization))
            del table  # the head is as large again
            return embedding, self._head(self._source.fetch(Part.LM_HEAD))
        return table.to(embedding_dtype(self._quantization)), self._head(table)

    def _head(self, weight: torch.Tensor) -> Linear:
        return make_linear(weight, None, head_scheme(self._quantization))

    def layer(self, index: int) -> DecoderLayer:
        config, fetch = self._config, self._source.fetch
        return DecoderLayer(
            attention_norm=fetch(Part.ATTENTION_NORM, index),
            qkv=self._fused(
                index,
                (Part.Q, Part.K, Part.V),
                (Part.Q_BIAS, Part.K_BIAS, Part.V_BIAS) if config.qkv_bias else (),
            ),
            qk_norm=self._qk_norm(index) if config.qk_norm else None,
            output=self._fused(
                index, (Part.OUTPUT,), (Part.OUTPUT_BIAS,) if config.output_bias else ()
            ),
            mlp_norm=fetch(Part.MLP_NORM, index),
            gate_up=self._fused(
                index,
                (Part.GATE, Part.UP),
                (Part.GATE_BIAS, Part.UP_BIAS) if config.mlp_bias else (),
            ),
            down=self._fused(index, (Part.DOWN,), (Part.DOWN_BIAS,) if config.mlp_bias else ()),
        )

    def _qk_norm(self, index: int) -> torch.Tensor:
        """A weight per head, so that one call norms q and k: [heads + kv_heads, head_size]."""
        q = self._source.fetch(Part.Q_NORM, index).expand(self._config.heads, -1)
        k = self._source.fetch(Part.K_NORM, index).expand(self._config.kv_heads, -1)
        return torch.cat((q, k))

    def _fused(self, index: int, weights: tuple[Part, ...], biases: tuple[Part, ...]) -> Linear:
        """One layer whose outputs are those of the parts, one after the other."""
        return self._linear(
            self._joined(index, weights), self._joined(index, biases) if biases else None
        )

    def _joined(self, index: int, parts: tuple[Part, ...]) -> torch.Tensor:
        tensors = [self._source.fetch(part, index) for part in parts]
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

    def _linear(self, weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
        return make_linear(weight, bias, self._quantization)
