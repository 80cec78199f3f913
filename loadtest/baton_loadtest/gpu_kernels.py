"""How long each kind of kernel of a step takes by itself, beside what the device allows it.

All layers' kernels of one kind run in turn, so that weights come from memory as they do in a step.
What a step takes beyond the sum of its kinds is lost between kernels. Imports the device's code;
knows kernels as the decoder calls them, and no engine.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from baton.engine.cuda.buffers import LinearInput, split_workspace
from baton.engine.cuda.decoder import DeviceWeights, Gated
from baton.engine.cuda.device import Device
from baton.engine.cuda.inputs import InputLayout, StepInputs, view_inputs
from baton.engine.cuda.kernels.attention import attend
from baton.engine.cuda.kernels.attention_plan import plan_splits
from baton.engine.cuda.kernels.rope import rotate_and_store
from baton.engine.cuda.kvcache import DeviceKvCache
from baton.engine.cuda.linear import DeviceLinear
from baton.model.config import ModelConfig

from baton_loadtest.gpu_report import KernelFigure
from baton_loadtest.gpu_work import KernelWork, Step

FINITE_BELOW = 64
"""Bytes below it make finite numbers of every type that a cache holds."""

Work = Callable[[], object]
Timer = Callable[[Work], float]
"""Seconds of some work on the device, which runs more than once and allocates nothing."""


@dataclass(frozen=True, slots=True)
class KernelModel:
    """What is measured."""

    config: ModelConfig
    weights: DeviceWeights
    kv_dtype: str
    block_size: int
    dtype: torch.dtype  # of activations between kernels


class KernelBench:
    """Makes all memory of one step's kernels, and times them kind by kind."""

    def __init__(self, model: KernelModel, step: Step, device: Device, timer: Timer) -> None:
        self._model, self._step, self._timer = model, step, timer
        self._device, self._at = device, device.torch_device
        config, blocks = model.config, -(-step.context_tokens // model.block_size)
        self.cache = DeviceKvCache(
            config,
            block_count=blocks * step.sequences,
            block_size=model.block_size,
            dtype=model.kv_dtype,
            device=self._at,
        )
        self.cache.vectors.view(torch.uint8).random_(0, FINITE_BELOW)
        if self.cache.scales is not None:
            self.cache.scales.fill_(1.0 / FINITE_BELOW)
        self._inputs = self._step_inputs(blocks)
        heads = config.heads + 2 * config.kv_heads
        self._qkv = self._rows(heads * config.head_size)
        self._queries = self._rows(config.heads * config.head_size)
        self._hidden = self._rows(config.hidden_size)
        self._added = torch.zeros_like(self._hidden)

    def figures(self, limits: KernelWork) -> Iterator[KernelFigure]:
        """`limits`: what each kind has to do at the least."""
        for name, work in self._kinds():
            yield KernelFigure(self._step.work, name, self._timer(work), limits.least_s(name))

    def _kinds(self) -> Iterator[tuple[str, Work]]:
        layers = self._model.weights.layers
        yield "qkv", self._products([layer.qkv for layer in layers])
        yield "rope and KV store", self._rotations
        yield "attention", self._attentions()
        yield "output", self._products([layer.output for layer in layers])
        gated = [layer.mlp for layer in layers if isinstance(layer.mlp, Gated)]
        if gated:
            yield "gate and up", self._products([mlp.gate_up for mlp in gated])
            yield "activation", self._activations([mlp.down for mlp in gated])
            yield "down", self._products([mlp.down for mlp in gated])
        else:
            yield "experts", self._experts
        yield "norms", self._norms()
        yield "head", self._products([self._model.weights.lm_head], self._step.sequences)

    def _products(self, linears: list[DeviceLinear], rows: int | None = None) -> Work:
        rows = rows or self._step.rows
        given = LinearInput(linears[0], rows, self._model.dtype, self._at)
        given.plain.normal_()
        x = given.taken(rows)
        head = linears[0] is self._model.weights.lm_head
        out = torch.zeros(
            rows,
            linears[0].outputs,
            dtype=torch.float32 if head else self._model.dtype,
            device=self._at,
        )

        def work() -> None:
            for linear in linears:
                linear(x, out)

        return work

    def _activations(self, downs: list[DeviceLinear]) -> Work:
        given = LinearInput(downs[0], self._step.rows, self._model.dtype, self._at)
        gate_up = self._rows(2 * downs[0].inputs)

        def work() -> None:
            for _ in downs:
                given.gated(gate_up)

        return work

    def _rotations(self) -> None:
        config, inputs = self._model.config, self._inputs
        queries = self._queries.view(-1, config.heads, config.head_size)
        for index, layer in enumerate(self._model.weights.layers):
            kv = self.cache.layer(index)
            rotate_and_store(
                self._qkv,
                inputs.positions,
                self._model.weights.cos_sin,
                inputs.write_slots,
                kv.keys,
                kv.values,
                kv.scales,
                queries,
                layer.qk_norm,
                config.rms_norm_eps,
            )

    def _attentions(self) -> Work:
        config, step, processors = self._model.config, self._step, self._device.processors
        splits = plan_splits(step.sequences, config.kv_heads, processors)
        workspace = split_workspace(config, step.sequences, processors, self._at)
        queries = self._queries.view(-1, config.heads, config.head_size)
        out = torch.zeros_like(self._queries)

        def work() -> None:
            for index in range(config.layers):
                kv = self.cache.layer(index)
                attend(
                    queries,
                    kv.keys,
                    kv.values,
                    kv.scales,
                    self._inputs,
                    out,
                    window=config.sliding_window if index in config.sliding_layers else None,
                    rows_max=step.rows // step.sequences,
                    splits=splits,
                    workspace=workspace,
                )

        return work

    def _experts(self) -> None:
        for layer in self._model.weights.layers:
            assert not isinstance(layer.mlp, Gated)
            layer.mlp(self._hidden, self._added, None)

    def _norms(self) -> Work:
        layers, eps = self._model.weights.layers, self._model.config.rms_norm_eps
        given = LinearInput(layers[0].qkv, self._step.rows, self._model.dtype, self._at)
        residual, nothing = self._hidden.float(), torch.zeros_like(self._hidden)

        def work() -> None:
            for layer in layers:
                given.normed(nothing, residual, layer.attention_norm, eps)
                given.normed(nothing, residual, layer.mlp_norm, eps)

        return work

    def _rows(self, width: int) -> torch.Tensor:
        shape = (self._step.rows, width)
        return torch.empty(shape, dtype=self._model.dtype, device=self._at).normal_()

    def _step_inputs(self, blocks: int) -> StepInputs:
        """Every sequence with the same number of rows, at the end of its context."""
        step, size = self._step, self._model.block_size
        layout = InputLayout(step.rows, step.sequences, step.sequences, blocks)
        memory = torch.zeros(layout.nbytes, dtype=torch.uint8, device=self._at)
        inputs = view_inputs(memory, layout)
        each = step.rows // step.sequences
        inputs.query_starts.copy_(torch.arange(step.sequences + 1) * each)
        inputs.context_lengths.fill_(step.context_tokens)
        tables = torch.arange(step.sequences * blocks).view(step.sequences, blocks)
        inputs.block_tables.copy_(tables)
        positions = torch.arange(step.context_tokens - each, step.context_tokens)
        inputs.positions.copy_(positions.repeat(step.sequences))
        slots = tables[:, positions // size] * size + positions % size
        inputs.write_slots.copy_(slots.view(-1))
        return inputs
