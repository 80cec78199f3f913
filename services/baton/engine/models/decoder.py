"""The decoder of every supported family: embedding, attention and gated MLP layers, norm, head.

Knows the model's arithmetic and which flags change it; knows no requests, no sampling, no files.
Rows of all requests lie flat in one [T, hidden] tensor; positions and the plan tell them apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch.nn import functional

from baton.engine.attention.paged import attend
from baton.engine.attention.plan import AttentionPlan
from baton.engine.attention.rows import flatten
from baton.engine.batch import BatchSlice
from baton.engine.kvcache import PagedKvCache
from baton.engine.kvside import TorchKv
from baton.engine.models.frequencies import inverse_frequencies
from baton.engine.models.mlp import Mlp
from baton.engine.models.rotary import Rotation
from baton.engine.models.steps import Rows, StepRows, best_tokens, drawn_rows
from baton.engine.quant.linear import Linear
from baton.model.config import ModelConfig


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    attention_norm: torch.Tensor  # [hidden]
    qkv: Linear  # hidden -> (heads + 2 * kv_heads) * head_size
    qk_norm: torch.Tensor | None  # [heads + kv_heads, head_size]
    output: Linear  # heads * head_size -> hidden
    mlp_norm: torch.Tensor  # [hidden]
    mlp: Mlp


class Decoder:
    """Implements StepModel on torch.

    The residual stream is float32 in every scheme: it is small, and its rounding adds up.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        embedding: torch.Tensor,  # [vocab, hidden]
        layers: tuple[DecoderLayer, ...],
        final_norm: torch.Tensor,  # [hidden]
        lm_head: Linear,  # hidden -> vocab
    ) -> None:
        self.config = config
        self._embedding, self._layers = embedding, layers
        self._final_norm, self._lm_head = final_norm, lm_head
        self._frequencies = torch.from_numpy(inverse_frequencies(config))
        self._kv: WeakKeyDictionary[PagedKvCache, TorchKv] = WeakKeyDictionary()

    def compute(
        self, slices: Sequence[BatchSlice], cache: PagedKvCache, *, stands_back: bool = False
    ) -> StepRows:
        """`stands_back` changes nothing: torch's threads are the whole process's."""
        config = self.config
        rows = flatten(
            slices,
            block_size=cache.block_size,
            window=config.sliding_window if config.sliding_layers else None,
        )
        with torch.inference_mode():
            kv = self._kv.get(cache) or self._kv.setdefault(cache, TorchKv(cache))
            hidden = self.forward(rows.tokens, rows.positions, rows.plan, kv).numpy()
        drawn = drawn_rows(slices, rows.firsts)
        logits = (
            self.logits(hidden[drawn]) if drawn else np.empty((0, config.vocab_size), np.float32)
        )
        return StepRows(hidden, rows.firsts, logits, best_tokens(logits))

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        plan: AttentionPlan,
        kv: TorchKv,
    ) -> torch.Tensor:
        """tokens and positions [T] -> final hidden rows [T, hidden]; writes the rows' KV."""
        x = functional.embedding(tokens, self._embedding).float()
        rotation = Rotation(positions, self._frequencies)
        for index, layer in enumerate(self._layers):
            x += self._attention(
                index, layer, self._norm(x, layer.attention_norm), rotation, plan, kv
            )
            x += layer.mlp(self._norm(x, layer.mlp_norm))
        return self._norm(x, self._final_norm)

    def logits(self, hidden: Rows) -> Rows:
        """Final hidden rows [R, hidden] -> [R, vocab]."""
        with torch.inference_mode():
            return self._lm_head(torch.from_numpy(hidden)).numpy()

    def _attention(
        self,
        index: int,
        layer: DecoderLayer,
        x: torch.Tensor,
        rotation: Rotation,
        plan: AttentionPlan,
        kv: TorchKv,
    ) -> torch.Tensor:
        """[T, hidden] -> [T, hidden]"""
        config = self.config
        turned = config.heads + config.kv_heads
        qkv = layer.qkv(x).view(len(x), turned + config.kv_heads, config.head_size)
        qk = qkv[:, :turned]  # [T, heads + kv_heads, head_size]
        if layer.qk_norm is not None:
            qk = (
                functional.rms_norm(qk, (config.head_size,), None, config.rms_norm_eps)
                * layer.qk_norm
            )
        qk = rotation(qk)
        keys, values = kv.layer(index)
        keys.write(plan.write_slots, qk[:, config.heads :])
        values.write(plan.write_slots, qkv[:, turned:])
        windowed = plan.windowed is not None and index in config.sliding_layers
        view = plan.windowed if windowed and plan.windowed is not None else plan.full
        return layer.output(attend(qk[:, : config.heads], keys, values, view))

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, weight.shape, weight, self.config.rms_norm_eps)
