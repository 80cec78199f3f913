"""A folder of random weights is read as any model's: its shape, its tokens and every tensor."""

from dataclasses import replace
from pathlib import Path

import pytest
from baton.engine.cuda.shapes import SHAPES
from baton.engine.weights.open import open_weights
from baton.engine.weights.parts import ExpertPart, Part
from baton.model.card import read_config
from baton.model.card_json import config_from_json
from baton.model.config import Family, ModelConfig
from baton.model.fetch import LocalModel
from baton.model.tokenizer import load_tokenizer
from baton_loadtest.random_folder import VALUE_BYTES, hf_config, write_random_model
from support.random_model import CONFIG

MIXTURE = ModelConfig(
    family=Family.QWEN3_MOE,
    vocab_size=64,
    hidden_size=32,
    intermediate_size=8,
    layers=2,
    heads=2,
    kv_heads=1,
    head_size=16,
    context_length=64,
    rms_norm_eps=1e-6,
    rope_theta=10_000.0,
    qk_norm=True,
    experts=3,
    experts_per_token=2,
    expert_intermediate_size=16,
)


@pytest.fixture
def model(tmp_path: Path) -> LocalModel:
    write_random_model(tmp_path, MIXTURE)
    return LocalModel(tmp_path, "random")


@pytest.mark.parametrize("shape", SHAPES)
def test_config_json_says_all_of_a_published_shape(shape: str) -> None:
    assert config_from_json("config.json", hf_config(SHAPES[shape])) == SHAPES[shape]


def test_a_shape_it_cannot_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot say"):
        write_random_model(tmp_path, replace(CONFIG, qkv_bias=True))


def test_every_tensor_is_there_and_those_of_a_shape_share_one_stretch(model: LocalModel) -> None:
    assert read_config(model) == MIXTURE
    with open_weights(model, MIXTURE) as weights:
        fetched = [weights.fetch(part, layer) for part in Part for layer in range(2)]
        fetched += [weights.fetch_expert(part, 1, 2) for part in ExpertPart]
    stretches = {array.shape: array for array in fetched}
    assert all((array == stretches[array.shape]).all() for array in fetched)
    values = sum(array.size for array in stretches.values())
    assert VALUE_BYTES * values < (model.path / "model.safetensors").stat().st_size
    assert (model.path / "model.safetensors").stat().st_size < VALUE_BYTES * values + 16_384


def test_activations_keep_their_size(model: LocalModel) -> None:
    with open_weights(model, MIXTURE) as weights:
        table, norm = weights.fetch(Part.EMBEDDING), weights.fetch(Part.FINAL_NORM)
    assert table.std() * MIXTURE.hidden_size**0.5 == pytest.approx(1, abs=0.1)
    assert norm.mean() == pytest.approx(1, abs=0.1)


def test_every_token_is_a_word_of_its_own(model: LocalModel) -> None:
    tokenizer = load_tokenizer(model)
    assert tokenizer.vocab_size == MIXTURE.vocab_size
    assert tokenizer.decode([7, 63]) == "t7t63"
