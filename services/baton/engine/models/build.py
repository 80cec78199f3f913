"""Builds torch's decoder from a source of weights, one layer at a time, under one compute scheme.

Knows which weights are fused and shared; knows no file formats.
"""

import torch

from baton.engine.models.decoder import Decoder, DecoderLayer
from baton.engine.models.mlp import ExpertMlp, GatedMlp
from baton.engine.quant.linear import Linear, make_linear
from baton.engine.quant.quantization import Quantization
from baton.engine.quant.schemes import head_scheme, narrow_embedding
from baton.engine.weights.parts import ExpertPart, Part, WeightSource
from baton.model.config import ModelConfig


def build_decoder(source: WeightSource, config: ModelConfig, quantization: Quantization) -> Decoder:
    """Peak memory is the finished decoder and one tensor in float32. Raises ModelFileError."""
    builder = _Builder(source, config, quantization)
    embedding, lm_head = builder.embedding_and_head()
    return Decoder(
        config,
        embedding=embedding,
        layers=tuple(builder.layer(index) for index in range(config.layers)),
        final_norm=builder.fetch(Part.FINAL_NORM),
        lm_head=lm_head,
    )


class _Builder:
    def __init__(
        self, source: WeightSource, config: ModelConfig, quantization: Quantization
    ) -> None:
        self._source, self._config, self._quantization = source, config, quantization

    def fetch(self, part: Part, layer: int | None = None) -> torch.Tensor:
        return torch.from_numpy(self._source.fetch(part, layer))

    def embedding_and_head(self) -> tuple[torch.Tensor, Linear]:
        """The table [vocab, hidden] and the head; tied ones share memory where types allow."""
        table = self.fetch(Part.EMBEDDING)
        narrow = narrow_embedding(self._quantization)
        embedding = table.bfloat16() if narrow else table
        if not self._config.tied_embeddings:
            del table  # the head is as large again
            return embedding, self._head(self.fetch(Part.LM_HEAD))
        return embedding, self._head(table)

    def _head(self, weight: torch.Tensor) -> Linear:
        return make_linear(weight, None, head_scheme(self._quantization))

    def layer(self, index: int) -> DecoderLayer:
        config, fetch = self._config, self.fetch
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
            mlp=self._mixture(index) if config.experts else self._mlp(index),
        )

    def _mlp(self, index: int) -> GatedMlp:
        biased = self._config.mlp_bias
        return GatedMlp(
            gate_up=self._fused(
                index, (Part.GATE, Part.UP), (Part.GATE_BIAS, Part.UP_BIAS) if biased else ()
            ),
            down=self._fused(index, (Part.DOWN,), (Part.DOWN_BIAS,) if biased else ()),
        )

    def _mixture(self, index: int) -> ExpertMlp:
        config = self._config
        return ExpertMlp(
            router=self.fetch(Part.ROUTER, index),
            experts=tuple(self._expert(index, expert) for expert in range(config.experts)),
            experts_per_token=config.experts_per_token,
            norm_topk_prob=config.norm_topk_prob,
        )

    def _expert(self, index: int, expert: int) -> GatedMlp:
        gate, up, down = (
            torch.from_numpy(self._source.fetch_expert(part, index, expert)) for part in ExpertPart
        )
        return GatedMlp(self._linear(torch.cat((gate, up)), None), self._linear(down, None))

    def _qk_norm(self, index: int) -> torch.Tensor:
        """A weight per head, so that one call norms q and k: [heads + kv_heads, head_size]."""
        q = self.fetch(Part.Q_NORM, index).expand(self._config.heads, -1)
        k = self.fetch(Part.K_NORM, index).expand(self._config.kv_heads, -1)
        return torch.cat((q, k))

    def _fused(self, index: int, weights: tuple[Part, ...], biases: tuple[Part, ...]) -> Linear:
        """One layer whose outputs are those of the parts, one after the other."""
        return self._linear(
            self._joined(index, weights), self._joined(index, biases) if biases else None
        )

    def _joined(self, index: int, parts: tuple[Part, ...]) -> torch.Tensor:
        tensors = [self.fetch(part, index) for part in parts]
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

    def _linear(self, weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
        return make_linear(weight, bias, self._quantization)
