"""The decoder on a device: one forward pass over all rows of a step, without a single allocation.

The arithmetic is `models.decoder`'s; what is fused there by hand is a kernel here. The residual
stream is float32 in every scheme. Knows the model's arithmetic and where its memory lies; knows no
requests, no sampling and no graphs.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from baton.common.errors import EngineFailure
from baton.engine.cuda.buffers import LinearInput, split_workspace
from baton.engine.cuda.device import Device
from baton.engine.cuda.inputs import StepInputs
from baton.engine.cuda.kernels.attention import attend
from baton.engine.cuda.kernels.attention_plan import plan_splits
from baton.engine.cuda.kernels.norm import add_rms_norm
from baton.engine.cuda.kernels.rope import rotate_and_store
from baton.engine.cuda.kvcache import DeviceKvCache, LayerKv
from baton.engine.cuda.linear import DeviceLinear
from baton.model.config import ModelConfig


class Mixture(Protocol):
    """The feed-forward half of a layer of experts."""

    def __call__(self, x: torch.Tensor, out: torch.Tensor, slots: torch.Tensor | None) -> None:
        """x [T, hidden] -> out [T, hidden]; rows whose slot is negative are padding."""
        ...


class Gated(NamedTuple):
    """The feed-forward half of a dense layer."""

    gate_up: DeviceLinear  # hidden -> 2 * intermediate
    down: DeviceLinear  # intermediate -> hidden


@dataclass(frozen=True, slots=True)
class DeviceLayer:
    attention_norm: torch.Tensor  # [hidden] float32
    qkv: DeviceLinear  # hidden -> (heads + 2 * kv_heads) * head_size
    qk_norm: torch.Tensor | None  # [2, head_size]: of q heads and of k heads
    output: DeviceLinear  # heads * head_size -> hidden
    mlp_norm: torch.Tensor  # [hidden] float32
    mlp: Gated | Mixture


@dataclass(frozen=True, slots=True)
class DeviceWeights:
    embedding: torch.Tensor  # [vocab, hidden]
    layers: tuple[DeviceLayer, ...]
    final_norm: torch.Tensor  # [hidden] float32
    lm_head: DeviceLinear  # hidden -> vocab
    cos_sin: torch.Tensor  # [context, head_size] float32, cosines first


@dataclass(frozen=True, slots=True)
class StepLimits:
    """Of the largest step there will be."""

    rows_max: int
    sequences_max: int
    samples_max: int  # rows of logits at once

    def require_fit(self, rows: int, sequences: int) -> None:
        """Raises EngineFailure for a step that is larger than the memory made for it."""
        if rows > self.rows_max or sequences > self.sequences_max:
            raise EngineFailure(
                f"a step of {rows} rows in {sequences} sequences; at most {self.rows_max} rows in"
                f" {self.sequences_max} were provided for"
            )


class _Cut(NamedTuple):
    """How attention's work is cut, in all layers of a step."""

    rows_longest: int
    splits: int


class DeviceDecoder:
    """All work is told to the current lane. A row's result depends on no other row."""

    def __init__(
        self,
        config: ModelConfig,
        weights: DeviceWeights,
        limits: StepLimits,
        device: Device,
        dtype: torch.dtype,
    ) -> None:
        """`dtype`: of activations between kernels, bfloat16 or float32."""
        self.config, self.limits = config, limits
        self._weights, self._processors = weights, device.processors
        rows, first, at = limits.rows_max, weights.layers[0], device.torch_device

        # zeros: padding rows are computed too, from whatever lies here
        def rows_of(width: int, kind: torch.dtype = dtype, count: int = rows) -> torch.Tensor:
            return torch.zeros(count, width, dtype=kind, device=at)

        self._embedded = rows_of(config.hidden_size, weights.embedding.dtype)
        self._residual = rows_of(config.hidden_size, torch.float32)
        self._delta = rows_of(config.hidden_size)
        self._qkv = rows_of(first.qkv.outputs)
        self._queries = rows_of(config.heads * config.head_size)
        self._qkv_input = LinearInput(first.qkv, rows, dtype, at)
        self._attended = LinearInput(first.output, rows, dtype, at)
        self._normed = rows_of(config.hidden_size)
        self._gate_up: torch.Tensor | None = None
        if isinstance(first.mlp, Gated):
            self._gate_up = rows_of(first.mlp.gate_up.outputs)
            self._mlp_input = LinearInput(first.mlp.gate_up, rows, dtype, at)
            self._down_input = LinearInput(first.mlp.down, rows, dtype, at)
        samples = limits.samples_max
        self._head_input = LinearInput(weights.lm_head, samples, dtype, at)
        self._logits = rows_of(config.vocab_size, torch.float32, samples)
        self._splits = split_workspace(config, limits.sequences_max, device.processors, at)

    def forward(self, inputs: StepInputs, cache: DeviceKvCache, *, rows_longest: int) -> None:
        """Leaves every row's hidden state, after the final norm, for `logits`; writes the rows' KV.

        `rows_longest`: rows of the longest sequence of the step.
        """
        rows = len(inputs.tokens)
        weights, residual = self._weights, self._residual[:rows]
        embedded = self._embedded[:rows]
        torch.index_select(weights.embedding, 0, inputs.tokens, out=embedded)
        residual.copy_(embedded)
        delta = None
        sequences = len(inputs.context_lengths)
        cut = _Cut(rows_longest, plan_splits(sequences, self.config.kv_heads, self._processors))
        for index, layer in enumerate(weights.layers):
            delta = self._layer(index, layer, delta, inputs, cache.layer(index), cut)
        self._norm_last(delta, residual)

    def logits(self, sample_rows: torch.Tensor) -> torch.Tensor:
        """Of some rows [R] of the last forward pass, R at most `samples_max`: [R, vocab] float32,
        until the next call."""
        count = len(sample_rows)
        assert count <= self.limits.samples_max, (
            "torch would enlarge what the head reads in silence"
        )
        head = self._head_input
        torch.index_select(self._normed, 0, sample_rows, out=head.plain[:count])
        logits = self._logits[:count]
        self._weights.lm_head(head.taken(count), logits)
        return logits

    def held_logits(self, count: int) -> torch.Tensor:
        """The first rows of what `logits`, or a graph of it, left: [count, vocab] float32."""
        return self._logits[:count]

    def _layer(
        self,
        index: int,
        layer: DeviceLayer,
        delta: torch.Tensor | None,
        inputs: StepInputs,
        kv: LayerKv,
        cut: _Cut,
    ) -> torch.Tensor:
        """What the layer adds to the residual stream behind `delta`, which it adds itself."""
        config, rows = self.config, len(inputs.tokens)
        residual, added = self._residual[:rows], self._delta[:rows]
        eps = config.rms_norm_eps
        qkv = self._qkv[:rows]
        layer.qkv(self._qkv_input.normed(delta, residual, layer.attention_norm, eps), qkv)
        self._attend(index, layer, qkv, inputs, kv, cut)
        layer.output(self._attended.taken(rows), added)
        if isinstance(layer.mlp, Gated):
            assert self._gate_up is not None
            gate_up = self._gate_up[:rows]
            layer.mlp.gate_up(self._mlp_input.normed(added, residual, layer.mlp_norm, eps), gate_up)
            layer.mlp.down(self._down_input.gated(gate_up), added)
        else:
            normed = self._normed[:rows]
            add_rms_norm(added, residual, layer.mlp_norm, eps, normed)
            layer.mlp(normed, added, inputs.write_slots)
        return added

    def _attend(
        self,
        index: int,
        layer: DeviceLayer,
        qkv: torch.Tensor,
        inputs: StepInputs,
        kv: LayerKv,
        cut: _Cut,
    ) -> None:
        config, rows = self.config, len(qkv)
        queries = self._queries[:rows].view(rows, config.heads, config.head_size)
        rotate_and_store(
            qkv,
            inputs.positions,
            self._weights.cos_sin,
            inputs.write_slots,
            kv.keys,
            kv.values,
            kv.scales,
            queries,
            layer.qk_norm,
            config.rms_norm_eps,
        )
        attend(
            queries,
            kv.keys,
            kv.values,
            kv.scales,
            inputs,
            self._attended.plain[:rows],
            window=config.sliding_window if index in config.sliding_layers else None,
            rows_max=cut.rows_longest,
            splits=cut.splits,
            workspace=self._splits,
        )

    def _norm_last(self, delta: torch.Tensor | None, residual: torch.Tensor) -> None:
        normed = self._normed[: len(residual)]
        add_rms_norm(delta, residual, self._weights.final_norm, self.config.rms_norm_eps, normed)
