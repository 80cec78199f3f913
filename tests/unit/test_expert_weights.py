"""Experts come out of a file one by one, and few of them are ever held in float32."""

from dataclasses import replace

import gguf
import numpy as np
import pytest
from baton.common.errors import ModelFileError
from baton.engine.models.build import build_decoder
from baton.engine.quant.quantization import Quantization
from baton.engine.weights.open import open_weights
from baton.engine.weights.parts import ExpertPart
from baton.model.card import read_config
from baton.model.fetch import LocalModel
from baton.model.ggml import GgmlType
from support.counted_experts import CountedExperts
from support.tiny_moe import EXPERTS, LAYERS, tiny_moe


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    path = tmp_path_factory.mktemp("moe") / "m.gguf"
    return tiny_moe(path, gate_up=GgmlType.Q8_0, down=GgmlType.Q8_0)


@pytest.mark.parametrize(
    ("part", "stack"),
    [
        (ExpertPart.GATE, "ffn_gate_exps"),
        (ExpertPart.UP, "ffn_up_exps"),
        (ExpertPart.DOWN, "ffn_down_exps"),
    ],
)
def test_an_expert_is_its_place_in_the_stack(
    part: ExpertPart, stack: str, model: LocalModel
) -> None:
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(model.path).tensors}
    tensor = tensors[f"blk.1.{stack}.weight"]
    expected = gguf.dequantize(tensor.data, tensor.tensor_type)
    with open_weights(model, read_config(model)) as source:
        for expert in range(EXPERTS):
            assert np.array_equal(source.fetch_expert(part, 1, expert), expected[expert])


@pytest.mark.parametrize("scheme", [Quantization.BF16, Quantization.INT8])
def test_a_decoder_is_built_with_one_expert_in_float32_at_a_time(
    scheme: Quantization, model: LocalModel
) -> None:
    config = read_config(model)
    with open_weights(model, config) as source:
        counted = CountedExperts(source)
        build_decoder(counted, config, scheme)
    assert counted.held_max == len(ExpertPart)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"experts": EXPERTS + 1}, r"ffn_gate_exps.weight has shape \[4, 32, 64\]"),
        ({"expert_intermediate_size": 64}, r"expected \[4, 64, 64\]"),
        ({"layers": LAYERS + 1}, r"blk\.2\.ffn_gate_exps.weight is missing"),
    ],
)
def test_a_stack_at_fault_is_named(changes: dict[str, int], says: str, model: LocalModel) -> None:
    wrong = replace(read_config(model), **changes)  # type: ignore[arg-type]
    with (
        open_weights(model, wrong) as source,
        pytest.raises(ModelFileError, match=rf"m\.gguf: tensor .*{says}"),
    ):
        source.fetch_expert(ExpertPart.GATE, wrong.layers - 1, 0)
