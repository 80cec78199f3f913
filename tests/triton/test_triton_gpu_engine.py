"""An engine on the device, a mixture of experts, from its first graph to its last token: on the
fake device it says what the engine of this processor says. `make bench-gpu` measures this one.
"""

import torch
from baton.engine.cuda.build import RunnerSpec
from baton.engine.cuda.shapes import DeviceRandomWeights
from baton.engine.quant.quantization import Quantization
from baton.engine.weights.parts import Part, part_shape
from baton.engine.weights.random_weights import RandomWeights
from baton.model.config import Family, ModelConfig
from baton_loadtest.gpu_engine import gpu_engine
from baton_loadtest.local_engine import greedy, local_engine
from support.fake_device import FakeDevice
from support.random_model import random_runner

TINY = ModelConfig(
    family=Family.QWEN3_MOE,
    vocab_size=64,
    hidden_size=32,
    intermediate_size=1,
    layers=1,
    heads=2,
    kv_heads=1,
    head_size=16,
    context_length=64,
    rms_norm_eps=1e-6,
    rope_theta=10_000.0,
    qk_norm=True,
    experts=4,
    experts_per_token=2,
    expert_intermediate_size=16,
    norm_topk_prob=True,
)


def test_a_mixture_says_on_the_device_what_it_says_on_the_processor() -> None:
    spec = RunnerSpec(
        quantization=Quantization.NONE,
        kv_dtype="float32",
        block_size=16,
        rows_max=2,
        sequences_max=2,
        memory_fraction=0.9,
    )
    heard: list[str] = []
    engine = gpu_engine(
        RandomWeights(TINY, 1), TINY, spec, FakeDevice(), lambda what, *_: heard.append(what)
    )
    assert set(heard) == {"weights", "steps", "graphs"}
    prompts = [[5, 9, 30], [7]]
    expected = greedy(local_engine(random_runner(TINY, block_size=16)), prompts, 4)
    assert greedy(engine, prompts, 4) == expected
    engine.audit()


def test_weights_of_a_shape_alone_have_its_shapes_and_keep_activations_their_size() -> None:
    source = DeviceRandomWeights(TINY, 0, torch.device("cpu"))
    for part in Part:
        tensor = source.fetch(part, 0)
        assert tensor.shape == part_shape(part, TINY)
    assert abs(source.fetch(Part.EMBEDDING).std().item() - TINY.hidden_size**-0.5) < 0.01
    assert abs(source.fetch(Part.ATTENTION_NORM, 0).mean().item() - 1.0) < 0.1
    assert abs(source.fetch(Part.Q_BIAS, 0).mean().item()) < 0.1
