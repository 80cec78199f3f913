"""What `make quality` asks of a device, on the fake one: it reads and writes in float32 as the
processor does, and each scheme is as far from that as its rounding is coarse."""

from pathlib import Path

import pytest
import torch
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import Quantization
from baton.model.card import read_config
from baton_loadtest.quality import Loader, Reader, Variant, measure_quality, score_window
from baton_loadtest.quality_cpu import cpu_loader
from baton_loadtest.quality_device import device_loader
from support.fake_device import MIB, FakeDevice
from support.tiny_models import HfConfig, tiny_model

# As little as can be: the interpreter takes half a second a step.
SHAPE: HfConfig = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
}
WINDOW = tuple((7 * index) % 90 + 10 for index in range(12))
FLOAT32 = Variant(Quantization.NONE)


def new_device() -> FakeDevice:
    """With a MiB for KV blocks: the interpreter copies them all at every launch."""
    return FakeDevice(free_bytes=257 * MIB)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reader, Loader]:
    """The reference, and what the device's schemes come from."""
    directory: Path = tmp_path_factory.mktemp("quality")
    model = tiny_model("llama3", directory, shape=SHAPE)
    config = read_config(model)
    reference = cpu_loader(model, config, window_tokens=len(WINDOW), threads=1)(FLOAT32)
    return reference, device_loader(model, config, new_device, window_tokens=len(WINDOW))


def test_float32_on_the_device_is_float32_on_the_processor(sides: tuple[Reader, Loader]) -> None:
    (row,) = measure_quality(*sides, [FLOAT32], [WINDOW], lambda text: None)
    assert row.perplexity_ratio == pytest.approx(1, abs=1e-4)
    assert row.divergence_mean_nats == pytest.approx(0, abs=1e-6)
    assert row.agreement == 1.0
    assert row.common_prefix_mean == row.continuation_tokens


def test_eight_bit_floats_are_further_away_than_sixteen(sides: tuple[Reader, Loader]) -> None:
    reference, load = sides
    variants = (Variant(Quantization.BF16), Variant(Quantization.FP8, KvCacheDtype.FP8))
    with torch.inference_mode():
        scored = [score_window(reference, load(variant), WINDOW) for variant in variants]
    sixteen, eight = (one.divergence_nats / one.positions for one in scored)
    assert 0 < sixteen < 0.01 < eight < 0.2
