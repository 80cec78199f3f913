"""From a source of weights to what the device decoder holds, one layer at a time.

Knows which weights are fused and in what they are packed; knows no files.
"""

import torch

from baton.engine.cuda.decoder import DeviceLayer, DeviceWeights, Gated, Mixture
from baton.engine.cuda.device import Device
from baton.engine.cuda.linear import DeviceLinear, Workspace
from baton.engine.cuda.moe import DeviceMoe, MoeBuffers, pack_experts, pack_router
from baton.engine.cuda.pack import TensorSource, pack_linear
from baton.engine.models.frequencies import inverse_frequencies
from baton.engine.quant.quantization import Quantization
from baton.engine.quant.schemes import head_scheme
from baton.engine.weights.parts import ExpertPart, Part, WeightSource
from baton.model.config import ModelConfig


def compute_dtype(quantization: Quantization) -> torch.dtype:
    """Of activations between kernels."""
    return torch.float32 if quantization is Quantization.NONE else torch.bfloat16


def load_weights(
    source: WeightSource | TensorSource,
    config: ModelConfig,
    quantization: Quantization,
    *,
    rows_max: int,
    device: Device,
) -> DeviceWeights:
    """Peak host memory is one tensor in float32. Raises ModelFileError."""
    loader = _Loader(source, config, quantization, rows_max, device)
    table = loader.fetch(Part.EMBEDDING)
    head = table if config.tied_embeddings else loader.fetch(Part.LM_HEAD)
    return DeviceWeights(
        embedding=table.to(
            device=device.torch_device, dtype=compute_dtype(quantization), copy=True
        ),
        lm_head=loader.linear(head, None, head_scheme(quantization)),
        layers=tuple(loader.layer(index) for index in range(config.layers)),
        final_norm=loader.vector(Part.FINAL_NORM),
        cos_sin=_cos_sin(config).to(device.torch_device),
    )


class _Loader:
    def __init__(
        self,
        source: WeightSource | TensorSource,
        config: ModelConfig,
        quantization: Quantization,
        rows_max: int,
        device: Device,
    ) -> None:
        self._source, self._config, self._quantization = source, config, quantization
        self._device = device.torch_device
        self._workspace = Workspace(self._device, device.processors)
        self._moe_buffers: MoeBuffers | None = None
        if config.experts:
            dtype = compute_dtype(quantization)
            self._moe_buffers = MoeBuffers(
                config, quantization, rows_max=rows_max, dtype=dtype, device=self._device
            )

    def fetch(self, part: Part, layer: int | None = None) -> torch.Tensor:
        """float32, wherever the source has it."""
        return torch.as_tensor(self._source.fetch(part, layer))

    def vector(self, part: Part, layer: int | None = None) -> torch.Tensor:
        return self.fetch(part, layer).to(self._device)

    def linear(
        self, weight: torch.Tensor, bias: torch.Tensor | None, scheme: Quantization
    ) -> DeviceLinear:
        return pack_linear(weight, bias, scheme, self._device, self._workspace)

    def layer(self, index: int) -> DeviceLayer:
        config = self._config
        qkv_biases = (Part.Q_BIAS, Part.K_BIAS, Part.V_BIAS) if config.qkv_bias else ()
        return DeviceLayer(
            attention_norm=self.vector(Part.ATTENTION_NORM, index),
            qkv=self._fused(index, (Part.Q, Part.K, Part.V), qkv_biases),
            qk_norm=self._qk_norm(index) if config.qk_norm else None,
            output=self._fused(
                index, (Part.OUTPUT,), (Part.OUTPUT_BIAS,) if config.output_bias else ()
            ),
            mlp_norm=self.vector(Part.MLP_NORM, index),
            mlp=self._gated(index) if self._moe_buffers is None else self._mixture(index),
        )

    def _gated(self, index: int) -> Gated:
        biased = self._config.mlp_bias
        gate_up_biases = (Part.GATE_BIAS, Part.UP_BIAS) if biased else ()
        return Gated(
            gate_up=self._fused(index, (Part.GATE, Part.UP), gate_up_biases),
            down=self._fused(index, (Part.DOWN,), (Part.DOWN_BIAS,) if biased else ()),
        )

    def _mixture(self, index: int) -> Mixture:
        assert self._moe_buffers is not None
        scheme = self._quantization

        def fetch(part: ExpertPart, expert: int) -> torch.Tensor:
            return torch.as_tensor(self._source.fetch_expert(part, index, expert))

        router = self.fetch(Part.ROUTER, index)
        return DeviceMoe(
            self._config,
            pack_router(router, scheme, self._device, self._workspace),
            pack_experts(fetch, self._config, scheme, self._device),
            self._moe_buffers,
        )

    def _qk_norm(self, index: int) -> torch.Tensor:
        """[2, head_size]: of q heads and of k heads."""
        weights = [self.vector(part, index) for part in (Part.Q_NORM, Part.K_NORM)]
        return torch.stack(weights)

    def _fused(
        self, index: int, weights: tuple[Part, ...], biases: tuple[Part, ...]
    ) -> DeviceLinear:
        """One layer whose outputs are those of the parts, one after the other."""
        weight = torch.cat([self.fetch(part, index) for part in weights])
        bias = torch.cat([self.fetch(part, index) for part in biases]) if biases else None
        return self.linear(weight, bias, self._quantization)


def _cos_sin(config: ModelConfig) -> torch.Tensor:
    """[context, head_size] float32: of every position the cosines, then the sines."""
    positions = torch.arange(config.context_length, dtype=torch.float32)
    angles = positions[:, None] * torch.as_tensor(inverse_frequencies(config))
    return torch.cat((angles.cos(), angles.sin()), 1)
