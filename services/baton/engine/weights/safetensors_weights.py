"""The decoder's weights out of a Hugging Face model directory of safetensors files.

Knows transformers' tensor names; knows nothing of shards.
"""

from baton.common.errors import ModelFileError
from baton.engine.weights.dequantize import dequantize
from baton.engine.weights.parts import (
    ExpertPart,
    Floats,
    Part,
    check_shape,
    expert_shape,
    part_shape,
)
from baton.model.config import ModelConfig
from baton.model.ggml import GgmlType
from baton.model.safetensors_index import SafetensorsFiles

TENSOR_NAMES = {
    Part.EMBEDDING: "model.embed_tokens.weight",
    Part.FINAL_NORM: "model.norm.weight",
    Part.LM_HEAD: "lm_head.weight",
    Part.ATTENTION_NORM: "model.layers.{}.input_layernorm.weight",
    Part.Q: "model.layers.{}.self_attn.q_proj.weight",
    Part.K: "model.layers.{}.self_attn.k_proj.weight",
    Part.V: "model.layers.{}.self_attn.v_proj.weight",
    Part.Q_BIAS: "model.layers.{}.self_attn.q_proj.bias",
    Part.K_BIAS: "model.layers.{}.self_attn.k_proj.bias",
    Part.V_BIAS: "model.layers.{}.self_attn.v_proj.bias",
    Part.Q_NORM: "model.layers.{}.self_attn.q_norm.weight",
    Part.K_NORM: "model.layers.{}.self_attn.k_norm.weight",
    Part.OUTPUT: "model.layers.{}.self_attn.o_proj.weight",
    Part.OUTPUT_BIAS: "model.layers.{}.self_attn.o_proj.bias",
    Part.MLP_NORM: "model.layers.{}.post_attention_layernorm.weight",
    Part.GATE: "model.layers.{}.mlp.gate_proj.weight",
    Part.UP: "model.layers.{}.mlp.up_proj.weight",
    Part.DOWN: "model.layers.{}.mlp.down_proj.weight",
    Part.GATE_BIAS: "model.layers.{}.mlp.gate_proj.bias",
    Part.UP_BIAS: "model.layers.{}.mlp.up_proj.bias",
    Part.DOWN_BIAS: "model.layers.{}.mlp.down_proj.bias",
    Part.ROUTER: "model.layers.{}.mlp.gate.weight",
}
EXPERT_TENSOR_NAMES = {
    ExpertPart.GATE: "model.layers.{}.mlp.experts.{}.gate_proj.weight",
    ExpertPart.UP: "model.layers.{}.mlp.experts.{}.up_proj.weight",
    ExpertPart.DOWN: "model.layers.{}.mlp.experts.{}.down_proj.weight",
}
# Plain floats lie in both formats alike.
_PLAIN = {"F32": GgmlType.F32, "F16": GgmlType.F16, "BF16": GgmlType.BF16}


class SafetensorsWeights:
    def __init__(self, files: SafetensorsFiles, config: ModelConfig) -> None:
        self._files, self._config = files, config

    def fetch(self, part: Part, layer: int | None = None) -> Floats:
        """The tensor in float32. Raises ModelFileError, naming file and tensor."""
        return self._tensor(TENSOR_NAMES[part].format(layer), part_shape(part, self._config))

    def fetch_expert(self, part: ExpertPart, layer: int, expert: int) -> Floats:
        name = EXPERT_TENSOR_NAMES[part].format(layer, expert)
        return self._tensor(name, expert_shape(part, self._config))

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Floats:
        entry = self._files.tensors.get(name)
        if entry is None:
            raise ModelFileError(f"{self._anywhere()}: tensor {name} is missing")
        check_shape(entry.file.name, name, entry.shape, shape)
        return dequantize(self._files.tensor_bytes(name), _PLAIN[entry.dtype], entry.shape)

    def _anywhere(self) -> str:
        return ", ".join(sorted({entry.file.name for entry in self._files.tensors.values()}))
