"""Weights come out of both formats alike, and what is missing or misshapen is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from baton.common.errors import ModelFileError
from baton.engine.models.build import build_decoder
from baton.engine.quant.quantization import Quantization
from baton.engine.weights.gguf_weights import deinterleave_rotary
from baton.engine.weights.open import open_weights
from baton.engine.weights.parts import Part
from baton.model.card import read_config
from baton.model.fetch import LocalModel
from safetensors.torch import load_file, save_file
from support.tiny_gguf import gguf_name, write_gguf
from support.tiny_models import hf_config, tiny_model

VICTIM = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize("variant", ["llama3", "qwen2", "qwen3"])
def test_both_formats_hold_the_same_weights(variant: str, tmp_path: Path) -> None:
    folder, file = tiny_model(variant, tmp_path), tiny_model(variant, tmp_path, gguf=True)
    config = read_config(folder)
    parts = [Part.EMBEDDING, Part.Q, Part.K, Part.V, Part.OUTPUT, Part.GATE, Part.UP, Part.DOWN]
    parts += [Part.Q_BIAS, Part.K_BIAS, Part.V_BIAS] if config.qkv_bias else []
    parts += [Part.Q_NORM, Part.K_NORM] if config.qk_norm else []
    with open_weights(folder, config) as one, open_weights(file, config) as other:
        for part in parts:
            assert np.array_equal(one.fetch(part, 2), other.fetch(part, 2)), part


def test_rotary_rows_go_back_to_where_the_converter_took_them_from() -> None:
    rows = np.arange(2 * 6 * 3, dtype=np.float32).reshape(12, 3)  # 2 heads of 6
    halves = rows.reshape(2, 2, 3, 3)
    pairs = halves.swapaxes(1, 2).reshape(12, 3)  # the converter's permutation
    assert np.array_equal(deinterleave_rotary(pairs, 2), rows)
    assert np.array_equal(deinterleave_rotary(pairs[:, 0], 2), rows[:, 0])  # and biases


def damaged(
    tmp_path: Path, form: str, replacement: torch.Tensor | None
) -> tuple[LocalModel, LocalModel]:
    """A sound model, and one whose tensor VICTIM is replaced or, with None, gone."""
    sound = tiny_model("llama3", tmp_path, gguf=form == "gguf")
    source = sound if form == "safetensors" else tiny_model("llama3", tmp_path)
    weights = load_file(source.path / "model.safetensors")
    del weights[VICTIM]
    if replacement is not None:
        weights[VICTIM] = replacement
    path = tmp_path / "damaged.gguf" if form == "gguf" else tmp_path / "damaged"
    if form == "gguf":
        write_gguf(path, hf_config("llama3"), weights)
    else:
        path.mkdir()
        save_file(weights, path / "model.safetensors")
    return sound, LocalModel(path, "0")


@pytest.mark.parametrize("form", ["safetensors", "gguf"])
@pytest.mark.parametrize(
    ("replacement", "fault"),
    [(None, "is missing"), (torch.zeros(96, 32), r"has shape \[96, 32\], expected \[96, 64\]")],
    ids=["missing", "misshapen"],
)
def test_a_tensor_at_fault_is_named_with_its_file(
    form: str, replacement: torch.Tensor | None, fault: str, tmp_path: Path
) -> None:
    sound, broken = damaged(tmp_path, form, replacement)
    file = "damaged.gguf" if form == "gguf" else "model.safetensors"
    name = gguf_name(VICTIM) if form == "gguf" else VICTIM
    config = read_config(sound)
    with (
        pytest.raises(ModelFileError, match=f"{file}: tensor {name} {fault}"),
        open_weights(broken, config) as source,
    ):
        build_decoder(source, config, Quantization.NONE)
