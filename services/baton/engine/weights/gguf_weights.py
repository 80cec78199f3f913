"""The decoder's weights out of a GGUF file.

Knows llama.cpp's tensor names, its order of rotary rows and how experts are stacked; knows nothing
of block formats.
"""

from baton.engine.weights.dequantize import Bytes, dequantize
from baton.engine.weights.parts import (
    ExpertPart,
    Floats,
    Part,
    check_shape,
    expert_shape,
    part_shape,
)
from baton.model.config import ModelConfig
from baton.model.gguf import GgufFile, TensorEntry

_NAMES = {
    Part.EMBEDDING: "token_embd.weight",
    Part.FINAL_NORM: "output_norm.weight",
    Part.LM_HEAD: "output.weight",
    Part.ATTENTION_NORM: "blk.{}.attn_norm.weight",
    Part.Q: "blk.{}.attn_q.weight",
    Part.K: "blk.{}.attn_k.weight",
    Part.V: "blk.{}.attn_v.weight",
    Part.Q_BIAS: "blk.{}.attn_q.bias",
    Part.K_BIAS: "blk.{}.attn_k.bias",
    Part.V_BIAS: "blk.{}.attn_v.bias",
    Part.Q_NORM: "blk.{}.attn_q_norm.weight",
    Part.K_NORM: "blk.{}.attn_k_norm.weight",
    Part.OUTPUT: "blk.{}.attn_output.weight",
    Part.OUTPUT_BIAS: "blk.{}.attn_output.bias",
    Part.MLP_NORM: "blk.{}.ffn_norm.weight",
    Part.GATE: "blk.{}.ffn_gate.weight",
    Part.UP: "blk.{}.ffn_up.weight",
    Part.DOWN: "blk.{}.ffn_down.weight",
    Part.GATE_BIAS: "blk.{}.ffn_gate.bias",
    Part.UP_BIAS: "blk.{}.ffn_up.bias",
    Part.DOWN_BIAS: "blk.{}.ffn_down.bias",
    Part.ROUTER: "blk.{}.ffn_gate_inp.weight",
}
_STACKS = {
    ExpertPart.GATE: "blk.{}.ffn_gate_exps.weight",
    ExpertPart.UP: "blk.{}.ffn_up_exps.weight",
    ExpertPart.DOWN: "blk.{}.ffn_down_exps.weight",
}
# The converter interleaves the two rotary halves of each head for these architectures only.
_INTERLEAVED_ARCHITECTURES = frozenset({"llama"})


class GgufWeights:
    def __init__(self, file: GgufFile, config: ModelConfig) -> None:
        self._file, self._config = file, config
        self._heads: dict[Part, int] = {}  # parts whose rows are interleaved, and their head count
        if file.metadata.get("general.architecture") in _INTERLEAVED_ARCHITECTURES:
            self._heads = {
                Part.Q: config.heads,
                Part.Q_BIAS: config.heads,
                Part.K: config.kv_heads,
                Part.K_BIAS: config.kv_heads,
            }

    def fetch(self, part: Part, layer: int | None = None) -> Floats:
        """The tensor in float32. Raises ModelFileError, naming file and tensor."""
        entry, packed = self._packed(_NAMES[part].format(layer), part_shape(part, self._config))
        tensor = dequantize(packed, entry.type, entry.shape)
        heads = self._heads.get(part)
        return tensor if heads is None else deinterleave_rotary(tensor, heads)

    def fetch_expert(self, part: ExpertPart, layer: int, expert: int) -> Floats:
        """The matrix in float32, and nothing else of the stack. Raises ModelFileError."""
        shape, experts = expert_shape(part, self._config), self._config.experts
        entry, packed = self._packed(_STACKS[part].format(layer), (experts, *shape))
        # blocks run within rows, so each expert is a stretch of whole ones
        return dequantize(packed.reshape(experts, -1)[expert], entry.type, shape)

    def _packed(self, name: str, shape: tuple[int, ...]) -> tuple[TensorEntry, Bytes]:
        packed = self._file.tensor_bytes(name)  # raises when it is missing
        entry = self._file.tensors[name]
        check_shape(self._file.name, name, entry.shape, shape)
        return entry, packed


def deinterleave_rotary(rows: Floats, heads: int) -> Floats:
    """Rows [heads * head_size, ...] from pairwise rotary order to the decoder's, in halves."""
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])  # [heads, head_size / 2, 2, ...]
    return pairs.swapaxes(1, 2).reshape(rows.shape)
